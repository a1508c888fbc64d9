"""params.yaml: read, checked and described; composed of the sections of all rooms."""
