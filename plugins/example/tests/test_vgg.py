from zooconv_vgg import FAMILY
from zooconv.testing import assert_family


def test_vgg():
    assert_family(FAMILY)
