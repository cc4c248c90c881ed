#!/usr/bin/env bash
# The real SkyPilot over the real Slurm of dev/slurm.sh, both on loopback, for tests of what runs through SkyPilot.
# Needs root and Debian's packages: apt-get install slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge openssh-server rsync curl
# Usage: skypilot.sh up             start it and print the exports (running it twice is harmless)
#        skypilot.sh env            print the exports that crown_exp needs:  eval "$(dev/skypilot.sh env)"
#        skypilot.sh status         one line a part; exit 3 if one is down
#        skypilot.sh preempt NAME   take the machine of the job of that name, as a reclaim of spot does
#        skypilot.sh crowd          take all machines for as long as nobody says `room`, as other people's jobs do
#        skypilot.sh room           give them back
#        skypilot.sh restart        SkyPilot's API server once more: what it forgets, and who goes on without it
#        skypilot.sh plan DIR       make a home in DIR where prices of aws and gcp are known (fixtures, no quotes);
#                                   prints the exports, needs nothing of the above but SkyPilot
#        skypilot.sh down           end all jobs, stop all that `up` started and delete its folder
# SkyPilot is that of $CROWN_SKY__PYTHON, else of a virtual environment that `up` makes from PyPI.
#
# Everything lies in $CROWN_SKYPILOT_DIR and runs in mount and host-name namespaces of its own, in which root has
# its home there: neither ~/.sky, ~/.ssh nor /etc is touched, and `down` ends what is in those namespaces. Jobs run as root.
# Odd, and why:
#   host name crown1        SkyPilot compares the address of the host's name with those of the nodes
#   shims of curl and uv    every node would fetch uv and install SkyPilot with it; here it gets that of our Python
#   the network check       offline, SkyPilot believes that its network is down and takes no machine for lost
#   accelerators.csv        a task with an accelerator makes SkyPilot fetch it, also on Slurm
# All nodes share one network, and SkyPilot's choice of a port on a node has a race: two clusters must not be
# started within the same few seconds.
set -euo pipefail
umask 022
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
DIR=${CROWN_SKYPILOT_DIR:-/dev/shm/crown-skypilot-dev}
PORT=${CROWN_SKYPILOT_PORT:-17300}            # the API server's; up to PORT+6 are used
PYTHON=${CROWN_SKY__PYTHON:-}
VERSION=0.14.1
SSH_PORT=$((PORT + 2)) CHECK_PORT=$((PORT + 3))
export CROWN_SLURM_DIR=$DIR/slurm CROWN_SLURM_PORT=$((PORT + 4))
export SLURM_CONF=$CROWN_SLURM_DIR/slurm.conf
SKY_HOME=$DIR/home NODE_HOME=$DIR/node-home SHIMS=$DIR/shims
SYSTEM=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

die() { echo "skypilot.sh: $*" >&2; exit 1; }
alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }
wait_for() {
  local end=$((SECONDS + $1)) what=$2; shift 2
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || die "$what is not ready: see $DIR/log"; sleep 0.2; done
}
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
healthy() { /usr/bin/curl -fsS -m 10 "http://127.0.0.1:$PORT/api/health"; }
exports() {
  echo "export CROWN_SKY__PYTHON=$(cat "$DIR/python")"
  echo "export CROWN_SKY__HOME=$SKY_HOME"
  echo "export SKYPILOT_API_SERVER_LOCAL_PORT=$PORT"
}

find_python() {
  local made=${XDG_CACHE_HOME:-$HOME/.cache}/crown_exp/skypilot-$VERSION
  if [ -z "$PYTHON" ]; then
    PYTHON=$made/bin/python
    if [ ! -f "$made/complete" ]; then
      python3 -m venv "$made" >&2
      "$PYTHON" -m pip install --quiet --disable-pip-version-check "skypilot[slurm,remote]==$VERSION" "click<8.2" >&2
      touch "$made/complete"
    fi
  fi
  # Without hostlist a job ends in FAILED_SETUP; without grpc it hangs in STARTING for ever.
  "$PYTHON" -c 'import importlib.util as u; assert all(map(u.find_spec, ("sky", "hostlist", "grpc")))' 2>/dev/null ||
    die "no skypilot[slurm,remote] in $PYTHON: type: pip install 'skypilot[slurm,remote]==$VERSION' 'click<8.2'"
}

write_shims() {
  local site; site=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  cat >"$SHIMS/curl" <<SH
#!/bin/sh
case "\$*" in
*/uv/install.sh*) echo 'mkdir -p "\$UV_INSTALL_DIR" && cp $SHIMS/uv "\$UV_INSTALL_DIR/uv"' ;;
*) exec /usr/bin/curl "\$@" ;;
esac
SH
  cat >"$SHIMS/uv" <<SH
#!/bin/sh
# Only the calls that SkyPilot $VERSION makes on a node.
case "\$1" in
-V|--version) echo 'uv 0.0.0 (of dev/skypilot.sh)' ;;
venv)
  shift; dir= system=
  while [ \$# -gt 0 ]; do case "\$1" in --python) shift ;; --system-site-packages) system=\$1 ;; -*) ;; *) dir=\$1 ;; esac; shift; done
  $PYTHON -m venv --without-pip \$system "\$dir" || exit 1
  printf '#!/bin/sh\nexec "\$(dirname "\$0")/python" -m pip "\$@"\n' >"\$dir/bin/pip"; chmod +x "\$dir/bin/pip"
  [ -n "\$system" ] || for lib in "\$dir"/lib/python3*; do echo '$site' >"\$lib/site-packages/sky.pth"; done ;;
pip) case "\$2" in list|install|uninstall) ;; *) exit 2 ;; esac ;;
run) shift; while [ "\${1#--}" != "\$1" ]; do shift; done; PATH=\$VIRTUAL_ENV/bin:\$PATH exec "\$@" ;;
*) echo "dev/skypilot.sh's uv: cannot \$*" >&2; exit 2 ;;
esac
SH
  chmod +x "$SHIMS/curl" "$SHIMS/uv"
}

write_homes() {
  [ -f "$DIR/key" ] || ssh-keygen -q -t ed25519 -N '' -f "$DIR/key"
  [ -f "$DIR/host_key" ] || ssh-keygen -q -t ed25519 -N '' -f "$DIR/host_key"
  cp "$DIR/key.pub" "$NODE_HOME/.ssh/authorized_keys"
  chmod 700 "$NODE_HOME/.ssh"; chmod 600 "$NODE_HOME/.ssh/authorized_keys"
  cat >"$SKY_HOME/.slurm/config" <<CONF
Host crown-dev
    HostName 127.0.0.1
    Port $SSH_PORT
    User root
    IdentityFile $DIR/key
    IdentitiesOnly yes
CONF
  [ -f "$SKY_HOME/.sky/config.yaml" ] || cat >"$SKY_HOME/.sky/config.yaml" <<CONF
jobs: {controller: {consolidation_mode: true}}
slurm: {provision_timeout: 120, cluster_configs: {crown-dev: {tmpdir: $DIR/tmp}}}
CONF
  cat >"$DIR/sshd_config" <<CONF
Port $SSH_PORT
ListenAddress 127.0.0.1
HostKey $DIR/host_key
PidFile $DIR/sshd.pid
AllowUsers root
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
UseDNS no
MaxStartups 100:30:200
MaxSessions 100
Subsystem sftp internal-sftp
SetEnv PATH=$SHIMS:$SYSTEM SLURM_CONF=$SLURM_CONF
CONF
  cp "$HERE/skypilot_site.py" "$DIR/site/sitecustomize.py"
}

# What the namespaces see instead of the machine's own files.
write_etc() {
  sed "s|^\(root:[^:]*:0:[^:]*:[^:]*\):[^:]*:[^:]*$|\1:$NODE_HOME:/bin/bash|" /etc/passwd >"$DIR/etc/passwd"
  (umask 077; sed 's|^root:[^:]*:|root:*:|' /etc/shadow >"$DIR/etc/shadow")
  { cat /etc/hosts; echo "127.0.0.1 crown1 crown2"; } >"$DIR/etc/hosts"
  { cat /etc/profile; echo "export PATH=$SHIMS:\$PATH SLURM_CONF=$SLURM_CONF"; } >"$DIR/etc/profile"
}

# Is a process in the namespaces of `up`? Both must be the same: the number of one may be given again.
namespaces() { echo "$(readlink "/proc/$1/ns/mnt" 2>/dev/null) $(readlink "/proc/$1/ns/uts" 2>/dev/null)"; }
inside() {
  if alive "$DIR/holder.pid" && [ "$(namespaces "$(cat "$DIR/holder.pid")")" = "$(cat "$DIR/namespaces")" ]; then
    nsenter --target "$(cat "$DIR/holder.pid")" --mount --uts "$HERE/skypilot.sh" "$1"
  else
    unshare --mount --uts --propagation private "$HERE/skypilot.sh" "$1"
  fi
}

up() {
  local program
  [ "$(id -u)" -eq 0 ] || die "needs root (Slurm starts jobs as their users)"
  for program in slurmctld slurmd sbatch munged sshd ssh rsync curl unshare nsenter; do
    PATH=$SYSTEM command -v $program >/dev/null ||
      die "no $program: apt-get install slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge openssh-server rsync curl"
  done
  mkdir -p "$DIR"/{log,shims,site,etc,empty} "$DIR/tmp" "$NODE_HOME/.ssh" "$SKY_HOME/.sky/api_server" "$SKY_HOME/.slurm"
  touch "$DIR/made_by_skypilot.sh"
  if alive "$DIR/server.pid"; then PYTHON=$(cat "$DIR/python"); else find_python; fi
  echo "$PYTHON" >"$DIR/python"
  write_shims; write_homes
  [ -f "$SKY_HOME/.sky/state.db" ] || HOME=$SKY_HOME "$PYTHON" "$HERE/skypilot_catalogue.py" "$SKY_HOME" slurm >>"$DIR/log/catalogue.log" 2>&1 ||
    die "the catalogue was not written: see $DIR/log/catalogue.log"
  inside start >>"$DIR/log/up.log" 2>&1 || die "$(tail -n 1 "$DIR/log/up.log")"
}

# In the namespaces, new or old.
start() {
  local file
  PYTHON=$(cat "$DIR/python")
  if [ "$(namespaces self)" != "$(cat "$DIR/namespaces" 2>/dev/null)" ]; then
    write_etc
    for file in passwd shadow hosts profile; do mount --bind "$DIR/etc/$file" "/etc/$file"; done
    hostname crown1
    namespaces self >"$DIR/namespaces"
    spawn holder sleep infinity
  fi
  "$HERE/slurm.sh" up
  mkdir -p /run/sshd
  alive "$DIR/sshd.pid" || /usr/sbin/sshd -f "$DIR/sshd_config" -E "$DIR/log/sshd.log"
  alive "$DIR/check.pid" || spawn check /usr/bin/env python3 -m http.server "$CHECK_PORT" --bind 127.0.0.1 --directory "$DIR/empty"
  serve
}
spawn() {
  local name=$1; shift
  setsid "$@" >>"$DIR/log/$name.log" 2>&1 </dev/null &
  echo $! >"$DIR/$name.pid"
}
serve() {
  if ! alive "$DIR/server.pid"; then
    answers "$PORT" && die "port $PORT is taken: set CROWN_SKYPILOT_PORT"
    spawn server env -i HOME="$SKY_HOME" PATH="$(dirname "$PYTHON"):$SYSTEM" LANG=C.UTF-8 SLURM_CONF="$SLURM_CONF" \
      PYTHONPATH="$DIR/site" CROWN_SKY_NETWORK_CHECK="http://127.0.0.1:$CHECK_PORT" IS_SKYPILOT_SERVER=true \
      SKYPILOT_DISABLE_USAGE_COLLECTION=1 SKYPILOT_API_SERVER_LOCAL_PORT="$PORT" SKYPILOT_POD_MEMORY_GB_LIMIT=4 \
      "$PYTHON" -u -m sky.server.server --host=127.0.0.1 --port="$PORT" --metrics-port="$((PORT + 1))"
  fi
  wait_for 180 "SkyPilot's API server" healthy
}
# The server and its workers, not the processes that watch over jobs: as `sky api stop` does.
restart() {
  local pid; pid=$(cat "$DIR/server.pid")
  stop server
  for pid in $(ps -o pid= -s "$pid"); do kill -KILL "$pid" 2>/dev/null || true; done
  wait_for 30 "the end of SkyPilot's API server" free
  inside start >>"$DIR/log/up.log" 2>&1
}

stop() {
  local pid i
  alive "$DIR/$1.pid" || return 0
  pid=$(cat "$DIR/$1.pid"); kill -TERM "$pid" 2>/dev/null || true
  for i in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  kill -KILL "$pid" 2>/dev/null || true
  rm -f "$DIR/$1.pid"
}
free() { ! answers "$PORT"; }

# In the namespaces of `up`, or a server that a client has started in our home, with all of its session: its
# workers have another title, and no environment to know them by.
left() {
  local path pid
  for path in /proc/[0-9]*; do
    pid=${path#/proc/}
    if [ "$(namespaces "$pid")" = "$(cat "$DIR/namespaces")" ] || grep -qzxF "HOME=$SKY_HOME" "$path/environ" 2>/dev/null; then
      echo "$pid"
      [ "$(ps -o sid= -p "$pid" | tr -d ' ')" != "$pid" ] || ps -o pid= -s "$pid" || true
    fi
  done
}
down() {
  local pid i
  [ -f "$DIR/made_by_skypilot.sh" ] || return 0
  stop server
  "$HERE/slurm.sh" down
  if [ -f "$DIR/namespaces" ]; then
    for i in $(seq 20); do
      for pid in $(left); do [ "$pid" = $$ ] || [ "$pid" = $PPID ] || kill -KILL "$pid" 2>/dev/null || true; done
      [ -n "$(left)" ] || break
      sleep 0.2
    done
  fi
  rm -rf "$DIR"
}

preempt() {
  local ids; ids=$(squeue -h -t R -o '%i %j' | awk -v name="$1" 'index($2, name) {print $1}')
  [ -n "$ids" ] || die "no machine of a job $1"
  # shellcheck disable=SC2086
  scancel $ids
}

# In the partition whose jobs come before those of spot, which lose their machines to it.
crowd() {
  sbatch -Q -p cpu -N "$(sinfo -h -p cpu -o %D)" --exclusive -J crown-crowd -o /dev/null --wrap 'exec sleep infinity'
  wait_for 60 "the crowd" crowded
}
crowded() { [ -n "$(squeue -h -t R -n crown-crowd)" ]; }

status() {
  local rc=0 name
  say() { if "${@:2}" >/dev/null 2>&1; then echo "$1 up"; else echo "$1 down"; rc=3; fi; }
  "$HERE/slurm.sh" status || rc=3
  for name in sshd check server; do say "$name" alive "$DIR/$name.pid"; done
  say "SkyPilot at port $PORT" healthy
  return $rc
}

case ${1:-} in
up) up; exports ;;
env) exports ;;
status) status ;;
start) start ;;                               # used by `up` itself
restart) restart ;;
preempt) preempt "${2:?NAME}" ;;
crowd) crowd ;;
room) scancel -n crown-crowd ;;
plan) find_python; HOME=${2:?DIR} "$PYTHON" "$HERE/skypilot_catalogue.py" "$2" aws gcp >&2
  echo "export CROWN_SKY__PYTHON=$PYTHON"; echo "export CROWN_SKY__HOME=$(cd "$2" && pwd)" ;;
down) down ;;
*) echo "usage: $0 up|env|status|preempt NAME|crowd|room|restart|plan DIR|down" >&2; exit 2 ;;
esac
