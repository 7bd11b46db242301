"""Runs no-op tasks on Ray, all submitted before the first result is taken, and prints how many a second. usage: peer.py TASKS"""
import json
import os
import sys
import time

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray  # noqa: E402

count = int(sys.argv[1])
ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, logging_level="ERROR")


@ray.remote
def noop():
    return None


ray.get([noop.remote() for _ in range(1000)])
began = time.perf_counter()
tasks = [noop.remote() for _ in range(count)]
for first in range(0, count, 10_000):
    ray.get(tasks[first : first + 10_000])
print(json.dumps({"tasks_per_second": count / (time.perf_counter() - began)}))
ray.shutdown()
