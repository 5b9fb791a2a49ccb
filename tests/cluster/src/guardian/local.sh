# Outlives the process that started it: makes the base directory, waits for standard input to end, which it does however that
# process ends, then kills every server that works below the directory and removes it.
#   $1 the base directory   $2 "keep" to leave the directory
base=$1
trap '' HUP INT QUIT TERM
mkdir -m 700 "$base" || exit 1
echo ready
exec >/dev/null 2>&1
cat

# A server's working directory is its data directory, so servers are found even when their postmaster is gone.
servers() {
    if [ -e /proc/self/cwd ]; then
        ls -l /proc/[0-9]*/cwd | while read -r line; do
            case $line in
            *" -> $base/"*)
                pid=${line#*/proc/}
                echo "${pid%%/*}"
                ;;
            esac
        done
    else
        for lock in "$base"/*/postmaster.pid; do
            read -r pid <"$lock" || continue
            kill -0 "$pid" || continue
            pgrep -P "$pid"
            echo "$pid"
        done
    fi
}

tries=0
while [ "$tries" -lt 200 ]; do
    pids=$(servers)
    [ -n "$pids" ] || break
    # Unquoted: one argument a process.
    kill -KILL $pids
    tries=$((tries + 1))
    sleep 0.02
done

# A killed postmaster leaves its System V segment behind; line 7 of its lock file names it.
for lock in "$base"/*/postmaster.pid; do
    segment=$(sed -n 7p "$lock")
    ipcrm -m "${segment##* }"
done
[ "$2" != keep ] || exit 0
# A process that ends while it still copies a template adds files to what is being removed.
tries=0
until rm -rf "$base" || [ "$tries" -ge 500 ]; do
    tries=$((tries + 1))
    sleep 0.02
done
