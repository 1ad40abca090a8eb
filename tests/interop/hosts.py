"""Hosts by other implementations: for each URL on standard input, a line with its host by Ada, or `-` where it has none.

An address inside IPv6 is that address, and a last dot is left out, as huecry has it. Usage: hosts.py < urls
"""

import ipaddress
import socket
import sys

import ada_url

NAT64 = ipaddress.ip_network("64:ff9b::/96")


def host(url):
    try:
        found = ada_url.URL(url).hostname
    except ValueError:
        return "-"
    if found.startswith("["):
        address = ipaddress.ip_address(found.strip("[]"))
        inside = address.ipv4_mapped or (ipaddress.ip_address(int(address) & 0xFFFFFFFF) if address in NAT64 else None)
        return str(inside) if inside else f"[{address.compressed}]"
    found = found.removesuffix(".")
    if found and all(char in "0123456789abcdefx." for char in found):
        # What the C library takes for an address is one.
        try:
            return socket.inet_ntoa(socket.inet_aton(found))
        except OSError:
            pass
    return found or "-"


for line in sys.stdin.buffer.read().decode().split("\n"):
    if line:
        print(host(line))
