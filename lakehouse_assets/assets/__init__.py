"""Tables by layer, one file each: a declaration and the function that computes it."""
