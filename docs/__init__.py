"""The docs site: pages, and what makes those that follow from the code."""
