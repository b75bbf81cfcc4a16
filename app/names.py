"""What files are called: images that are tried, label images, tables of cells."""

EXTENSIONS = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".webp")  # of images
LABEL_EXTENSIONS = (".tiff", ".tif", ".png")
LABEL_ENDING, TABLE_ENDING = "_label.tiff", "_cells.csv"  # of what prediction writes
LABEL_ENDINGS = tuple("_label" + extension for extension in LABEL_EXTENSIONS)  # of label images
