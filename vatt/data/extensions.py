"""What files of media are called; in lower case, without the dot."""

VIDEO = (
    "mp4", "mkv", "webm", "avi", "mov", "m4v", "mpg", "mpeg", "ts", "mts", "m2ts", "ogv", "flv", "wmv", "3gp", "3g2",
)  # fmt: skip
SOUND = ("wav", "flac", "mp3", "m4a", "ogg", "oga", "opus", "aac", "wma", "aiff", "aif", "mka", "weba")
PICTURES = ("jpg", "jpeg", "png", "webp", "bmp")
EXTENSIONS = VIDEO + SOUND + PICTURES
