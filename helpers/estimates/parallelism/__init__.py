"""What several devices share and send: links, weights of a device, bytes of a pass, experts, caches that move."""
