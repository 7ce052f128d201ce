"""HTTP/3 without I/O: QUIC events in, HTTP events out (RFC 9114).

| module       | what it holds                                                          | specification        |
|--------------|------------------------------------------------------------------------|----------------------|
| `connection` | `H3Connection`: commands, QUIC events, unidirectional streams            | RFC 9114 §5 - §7     |
| `messages`   | requests, responses and pushes: frames in, `H3Event`s out              | RFC 9114 §4, §7      |
| `base`       | the life, the errors and the credit of streams                         | RFC 9114 §8, §10.5   |
| `push`       | push IDs and promises                                                  | RFC 9114 §4.6        |
| `streams`    | what is known of one stream                                            | RFC 9114 §4.1, §6    |
| `frames`     | frame types and their layout                                           | RFC 9114 §7          |
| `headers`    | which fields a message may have                                        | RFC 9114 §4.2 - §4.4 |
| `qpack`      | field compression, with its limits                                     | RFC 9204             |
| `settings`   | SETTINGS                                                               | RFC 9114 §7.2.4      |
| `events`     | what `handle_event()` returns                                          |                      |
| `exceptions` | error codes and the errors that carry them                             | RFC 9114 §8          |
"""
