"""Turns the features of many files into statistics, charts, a diagnosis and a report.

All functions are pure: no SQL, no S3, no clock. The caller passes in what they need.
"""
