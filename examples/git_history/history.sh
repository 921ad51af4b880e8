#!/bin/sh
# The history of the repository in the current folder as CSV: a row for every commit and merge.
echo 'author,authored,kind,commit,duration,version'
git log --no-merges --format='%aE,%aI,commit,%h,0,'
git log --merges --format='%aE,%aI,merge,%h,0,'
