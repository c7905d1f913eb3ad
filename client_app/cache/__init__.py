"""Files that a node keeps on disk between rounds."""
