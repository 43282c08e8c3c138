from ifnd_tf.run.words import counted


def test_one_thing_is_no_plural():
    assert counted(1, "image") == "1 image"
    assert counted(0, "image") == "0 images"
    assert counted(2000, "image") == "2,000 images"
    assert counted(1, "class", "classes") == "1 class"
    assert counted(3, "class", "classes") == "3 classes"
