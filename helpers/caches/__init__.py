"""Where keys and values live: rows (chapter 3), a prefix tree (chapter 4), pages (chapter 6), 8 bits (chapter 10).

Read in this order: `kv_cache` (simple), `page_pool` (pages without tensors), `paged_kv_cache` (pages with
tensors).
"""

from helpers.caches import radix_tree
from helpers.caches.eviction_queue import POLICIES, EvictionQueue
from helpers.caches.int8.paged import Int8PagedKVCache
from helpers.caches.int8.rows import Int8KVCache
from helpers.caches.kv_cache import KVCache
from helpers.caches.packed_text import packed
from helpers.caches.page_allocator import PageAllocator
from helpers.caches.page_index import PageIndex
from helpers.caches.page_pool import Offer, OutOfPages, PagePool, PoolStats
from helpers.caches.paged_kv_cache import PagedKVCache
from helpers.caches.pages import Pages
from helpers.caches.prefix_cache import KVCacheReuse
from helpers.caches.prefix_store import PrefixStore, ReuseStats
from helpers.caches.radix_node import Node
from helpers.caches.radix_tree import Insertion, Match, RadixTree, TreeStats
from helpers.caches.request_pages import RequestPages

__all__ = [
    "POLICIES",
    "EvictionQueue",
    "Insertion",
    "Int8KVCache",
    "Int8PagedKVCache",
    "KVCache",
    "KVCacheReuse",
    "Match",
    "Node",
    "Offer",
    "OutOfPages",
    "PageAllocator",
    "PageIndex",
    "PagePool",
    "PagedKVCache",
    "Pages",
    "PoolStats",
    "PrefixStore",
    "RadixTree",
    "RequestPages",
    "ReuseStats",
    "TreeStats",
    "packed",
    "radix_tree",
]
