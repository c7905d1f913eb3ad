"""What a node keeps on disk between rounds."""
