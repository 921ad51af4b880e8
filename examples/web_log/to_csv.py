"""From a web server's combined log (standard input) to CSV (standard output)."""

import csv
import re
import sys
from datetime import datetime

REQUEST = re.compile(
    r'(?P<address>\S+) \S+ (?P<login>\S+) \[(?P<time>[^]]+)\] "(?P<method>[A-Z]+) (?P<path>[^ "]*)[^"]*" '
    r'(?P<status>\d{3}) \S+ "[^"]*" "(?P<agent>[^"]*)"'
)


def main() -> None:
    """Write a row for every request that succeeded; say how many lines were no request."""
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(["visitor", "time", "method", "path", "duration", "agent"])
    others = 0
    for line in sys.stdin:
        request = REQUEST.match(line)
        if request is None:
            others += 1
        elif request["status"] < "400":
            time = datetime.strptime(request["time"], "%d/%b/%Y:%H:%M:%S %z").isoformat()
            visitor = request["address"] if request["login"] == "-" else request["login"]
            agent = request["agent"].split(" ")[-1]
            rows.writerow([visitor, time, request["method"], request["path"].partition("?")[0], 0, agent])
    if others:
        print(f"{others} lines are no request in the combined format", file=sys.stderr)


if __name__ == "__main__":
    main()
