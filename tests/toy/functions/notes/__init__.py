from skald.garbage import collect_rarely

collect_rarely()
