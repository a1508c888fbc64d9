"""params.yaml: read, checked and described; composed of the settings of all rooms."""
