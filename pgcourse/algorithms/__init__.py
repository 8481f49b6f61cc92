"""The algorithms of the lecture, one file each, and what they share: collecting data, critics, replay."""
