"""Objects on S3, and the files that clients upload, for any context.

`names` makes and reads keys, `objects` reads and writes. `uploads` takes a file from its
registration to its arrival, over `file_table` (rows) and `multipart` (S3).
"""
