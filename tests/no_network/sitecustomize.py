"""시험이 띄운 프로그램이 네트워크를 쓰면 바로 오류를 냅니다. 이 컴퓨터 안(127.0.0.1)은 됩니다.

환경 변수 NETWORK_IS_DOWN이 있으면 네트워크가 끊긴 것과 같은 오류(OSError)를 냅니다.
"""

import os
import socket

Refusal = OSError if "NETWORK_IS_DOWN" in os.environ else AssertionError

_connect = socket.socket.connect


def _local_only(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1"):
        raise Refusal(f"시험은 네트워크를 쓰지 않습니다: {address}")
    return _connect(self, address)


def _no_names(host, *args, **kwargs):
    if host not in ("127.0.0.1", "localhost", "::1"):
        raise Refusal(f"시험은 네트워크를 쓰지 않습니다: {host}")
    return _getaddrinfo(host, *args, **kwargs)


_getaddrinfo = socket.getaddrinfo
socket.socket.connect = _local_only
socket.getaddrinfo = _no_names
