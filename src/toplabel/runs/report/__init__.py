"""Report: labelled inputs go in, one HTML file comes out that shows them without a network."""
