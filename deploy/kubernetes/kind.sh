#!/bin/sh
# The chart on a Kubernetes of its own, in Docker on this Linux machine:
#   kind.sh up       kind's cluster, KubeRay's operator, the image, the chart with the echo example
#   kind.sh check    calls the echo; ends a worker's pod during a call, which has to go on
#   kind.sh down     takes all of it away
# Needs docker, kind, kubectl and helm. Every wait has a limit.
set -eu
cd "$(dirname "$0")/../.."

cluster=rayrtc
namespace=calls
kuberay=1.6.2
port=${PORT:-8000}
context=kind-$cluster

k() { kubectl --context "$context" --namespace "$namespace" "$@"; }

workers() { k get pods -l rayrtc/part=workers -o name; }

up() {
    kind get clusters | grep -qx "$cluster" || kind create cluster --name "$cluster" --wait 180s
    docker build -t rayrtc:0.1.0 -f deploy/docker/Dockerfile .
    kind load docker-image rayrtc:0.1.0 --name "$cluster"
    helm --kube-context "$context" upgrade --install kuberay-operator kuberay-operator \
        --repo https://ray-project.github.io/kuberay-helm --version "$kuberay" \
        --namespace kuberay --create-namespace --wait --timeout 300s
    # Kind's nodes are containers, whose addresses this machine reaches: workers take them for media.
    node=$(kubectl --context "$context" get nodes \
        -o jsonpath='{.items[0].status.addresses[?(@.type=="InternalIP")].address}')
    helm --kube-context "$context" upgrade --install rayrtc deploy/kubernetes/rayrtc \
        --namespace "$namespace" --create-namespace \
        --set-file 'app.files.app\.py=examples/echo.py' \
        --set workers.network.mode=host,workers.network.interfaces[0]=eth0 \
        --set "networkPolicy.nodeCIDRs[0]=$node/32" \
        --set workers.drainTimeout=120,controlPlane.replicas=2 \
        --set workers.groups.cpu.resources.requests.cpu=500m
    for _ in $(seq 60); do
        [ -z "$(workers)" ] || break
        sleep 5
    done
    k wait --for=condition=Ready pod -l rayrtc/part=workers --timeout=600s
    k rollout status deployment/rayrtc-control-plane --timeout=300s
    k exec deploy/rayrtc-control-plane -- rayrtc status
}

check() {
    make --no-print-directory .venv/.tests
    k port-forward service/rayrtc-control-plane "$port:80" >/dev/null &
    forward=$!
    trap 'kill "$forward"' EXIT
    for _ in $(seq 30); do
        ! curl -fsS --max-time 2 "http://127.0.0.1:$port/readyz" 2>/dev/null || break
        sleep 1
    done
    echo 'three calls:'
    .venv/bin/python -m tests.network.echo_call "http://127.0.0.1:$port" --calls 3 --seconds 5
    pod=$(workers | head -n 1)
    echo "a call of 30 s, in which $pod is deleted:"
    (sleep 10 && k delete "$pod" --wait=false) &
    .venv/bin/python -m tests.network.echo_call "http://127.0.0.1:$port" --seconds 30
    k wait --for=delete "$pod" --timeout=120s
    k wait --for=condition=Ready pod -l rayrtc/part=workers --timeout=600s
    echo 'the pod has ended after its call, and another one is ready'
}

down() { kind delete cluster --name "$cluster"; }

case ${1:-} in
up | check | down) "$1" ;;
*)
    sed -n '2,6s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
