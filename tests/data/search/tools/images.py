"""Pictures."""


def make_thumbnail(image, width):
    """Scales a picture down and keeps its proportions."""
    ratio = width / image.width
    return image.resize((width, int(image.height * ratio)))


def strip_metadata(image):
    """Removes EXIF data such as the place where a photo was taken."""
    image.info.clear()
    return image
