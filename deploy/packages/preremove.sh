#!/bin/sh
set -e
# An upgrade, for which rpm says how many packages remain.
if [ "$1" = upgrade ] || [ "$1" = 1 ]; then
  exit 0
fi
if [ -d /run/systemd/system ]; then
  systemctl disable --now clickhouse_postgres_exporter.service
fi
