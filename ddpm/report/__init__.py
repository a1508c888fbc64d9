"""What is shown: an analysis becomes blocks, and blocks become a terminal's text, Markdown, HTML or JSON."""
