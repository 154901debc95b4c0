"""The parts of the page that the modes share."""
