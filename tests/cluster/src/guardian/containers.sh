# Outlives the process that started it: waits for standard input to end, which it does however that process ends, then removes
# every container with the cluster's label, and the cluster's network.
#   $1 the cluster's name: the label's value and the network's name
cluster=$1
trap '' HUP INT QUIT TERM

list() {
    "$engine" ps --all --quiet --filter "label=pg-cluster=$cluster"
}
for engine in docker podman none; do
    list >/dev/null 2>&1 && break
done
[ "$engine" != none ] || exit 1
echo ready
exec >/dev/null 2>&1
cat

# The engine may still be making a container that was asked for: none has to be there twice.
quiet=0
tries=0
while [ "$quiet" -lt 2 ] && [ "$tries" -lt 100 ]; do
    tries=$((tries + 1))
    containers=$(list)
    if [ -n "$containers" ]; then
        quiet=0
        # Unquoted: one argument a container.
        "$engine" rm --force --volumes $containers
    else
        quiet=$((quiet + 1))
        sleep 0.2
    fi
done
"$engine" network rm "$cluster"
