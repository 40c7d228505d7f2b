"""The caches of this machine are read where the system tells them."""

from helpers.estimates import SERVER_CORE, this_host


def test_caches_grow_with_their_distance_from_the_core():
    for caches in filter(None, (SERVER_CORE, this_host())):
        assert 0 < caches.l1 < caches.l2 < caches.l3
        assert caches.source
