# Outlives the process that started it: waits for standard input to end, which it does however that process ends, then removes the
# control groups of a cluster, once the guardian of its directory has ended what is in them.
#   $1 the cluster's group, which holds one group a node and need not be there
group=$1
trap '' HUP INT QUIT TERM
echo ready
exec >/dev/null 2>&1
cat

tries=0
while [ -e "$group" ] && [ "$tries" -lt 500 ]; do
    rmdir "$group"/*/
    rmdir "$group" || sleep 0.02
    tries=$((tries + 1))
done
