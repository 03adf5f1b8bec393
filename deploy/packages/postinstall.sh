#!/bin/sh
# The exporter is not started: it needs an API key first, in
# /etc/default/clickhouse_postgres_exporter.
set -e
if command -v systemd-sysusers > /dev/null; then
  systemd-sysusers clickhouse_postgres_exporter.conf
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl try-restart clickhouse_postgres_exporter.service
fi
