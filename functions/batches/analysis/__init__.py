"""From the features of many files to one judgement: statistics, charts, diagnosis, report.

Pure functions: no SQL, no S3, no clock. What they need is passed in.
"""
