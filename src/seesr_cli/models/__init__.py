"""The networks: defined (graft, tagger), translated (keys) and loaded (load), never mixed."""
