# The first process of a node's container; the arguments are initdb's options.
#   POSTGRESQL_CONF   the whole configuration file
#   UPSTREAM          whose standby it is, as a connection string; empty for a primary
#   STANDBY_CONF      the settings that a standby keeps beside it
set -eu
umask 077
# Debian's packages put the programs where no PATH leads.
PATH=$PATH:$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1)
export PATH
data=/var/lib/postgresql/pg-cluster

# A container that is started again has its data already.
if [ ! -e "$data" ]; then
    rm -rf "$data.new"
    if [ -z "$UPSTREAM" ]; then
        initdb "$@" --pgdata "$data.new" >/dev/null
        printf 'host %s all all trust\n' all replication >>"$data.new/pg_hba.conf"
    else
        pg_basebackup --no-sync --checkpoint=fast --wal-method=stream --dbname "$UPSTREAM" --pgdata "$data.new"
        touch "$data.new/standby.signal"
        printf '%s' "$STANDBY_CONF" >"$data.new/postgresql.auto.conf"
    fi
    printf '%s' "$POSTGRESQL_CONF" >"$data.new/postgresql.conf"
    mv "$data.new" "$data"
fi
exec postgres -D "$data"
