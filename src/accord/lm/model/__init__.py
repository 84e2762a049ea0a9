"""Models: found, loaded, checked, adapted, written out."""
