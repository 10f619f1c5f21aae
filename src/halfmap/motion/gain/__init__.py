"""The fixed pattern of a camera: how a gain reference lies, what it is if there is none, and which pixels are bad."""
