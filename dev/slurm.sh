#!/usr/bin/env bash
# A real Slurm of two pretended nodes on loopback, for tests of what runs through Slurm. No accounting (slurmdbd).
# Needs root and Debian's packages: apt-get install slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge
# Usage: slurm.sh up          start it and print the exports (running it twice is harmless)
#        slurm.sh env         print the exports a shell needs:  eval "$(dev/slurm.sh env)"
#        slurm.sh status      one line a part; exit 3 if one is down
#        slurm.sh down        end all jobs, stop all that `up` started and delete its folder
# Everything lies in $CROWN_SLURM_DIR (sockets, spools, logs); jobs run as the user who submits them, here root.
# Two of them live side by side with a folder and ports of their own: CROWN_SLURM_DIR, CROWN_SLURM_PORT.
set -euo pipefail
umask 022
DIR=${CROWN_SLURM_DIR:-/dev/shm/crown-slurm-dev}
PORT=${CROWN_SLURM_PORT:-16917}                # slurmctld; node N listens on PORT+N
KILL_WAIT=${CROWN_SLURM_KILL_WAIT:-10}         # seconds from SIGTERM to SIGKILL (Slurm's own default: 30)
NODES=2
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export SLURM_CONF=$DIR/slurm.conf

die() { echo "slurm.sh: $*" >&2; exit 1; }
alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }
wait_for() {
  local end=$((SECONDS + 30)) what=$1; shift
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || die "$what is not ready after 30 s: see $DIR/log"; sleep 0.1; done
}
exports() { echo "export SLURM_CONF=$SLURM_CONF"; }

write_conf() {
  local host i; host=$(hostname -s)
  mkdir -p "$DIR"/{munge,state,spool,log}
  cat >"$SLURM_CONF" <<CONF
ClusterName=crown-dev
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$PORT
AuthType=auth/munge
AuthInfo=socket=$DIR/munge/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool/%n
SlurmctldPidFile=$DIR/slurmctld.pid
SlurmdPidFile=$DIR/slurmd-%n.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
KillWait=$KILL_WAIT
MinJobAge=300
InactiveLimit=0
ReturnToService=2
SlurmdParameters=config_overrides
CONF
  for i in $(seq $NODES); do
    echo "NodeName=crown$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$((PORT + i)) CPUs=4 RealMemory=4000 State=UNKNOWN"
  done >>"$SLURM_CONF"
  cat >>"$SLURM_CONF" <<CONF
PartitionName=cpu Nodes=crown[1-$NODES] Default=YES MaxTime=1-00:00:00 State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=spot Nodes=crown[1-$NODES] MaxTime=1-00:00:00 State=UP PriorityTier=1 PreemptMode=CANCEL GraceTime=10
CONF
  [ -f "$DIR/munge/munge.key" ] || (umask 077; head -c 1024 /dev/urandom >"$DIR/munge/munge.key")
}

nodes_ready() { [ "$(sinfo -h -N -p cpu -o '%t' | grep -cE '^(idle|mix|alloc|comp)$')" -ge $NODES ]; }

up() {
  local program i
  [ "$(id -u)" -eq 0 ] || die "needs root (slurmd starts jobs as their users)"
  for program in slurmctld slurmd sbatch munged; do
    command -v $program >/dev/null || die "no $program: apt-get install slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge"
  done
  [ -f "$SLURM_CONF" ] && alive "$DIR/slurmctld.pid" || write_conf
  if ! alive "$DIR/munge/munged.pid"; then
    rm -f "$DIR"/munge/munge.socket*
    munged --force --socket="$DIR/munge/munge.socket" --key-file="$DIR/munge/munge.key" --pid-file="$DIR/munge/munged.pid" \
      --log-file="$DIR/munge/munged.log" --seed-file="$DIR/munge/munged.seed" 2>>"$DIR/log/start.log" || die "munged did not start: see $DIR/log/start.log"
  fi
  if ! alive "$DIR/slurmctld.pid"; then
    (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null && die "port $PORT is taken: set CROWN_SLURM_PORT"
    slurmctld -f "$SLURM_CONF" >>"$DIR/log/start.log" 2>&1 || die "slurmctld did not start: see $DIR/log"
  fi
  wait_for slurmctld scontrol ping
  for i in $(seq $NODES); do
    mkdir -p "$DIR/spool/crown$i"
    alive "$DIR/slurmd-crown$i.pid" || slurmd -N "crown$i" -f "$SLURM_CONF" >>"$DIR/log/start.log" 2>&1 || die "slurmd of crown$i did not start: see $DIR/log"
  done
  wait_for "Slurm's nodes" nodes_ready
}

stop() {
  local pid i
  alive "$1" || return 0
  pid=$(cat "$1"); kill -TERM "$pid" 2>/dev/null || true
  for i in $(seq 100); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.1; done
  kill -KILL "$pid" 2>/dev/null || true
}

down() {
  local i
  if alive "$DIR/slurmctld.pid"; then
    squeue -h -o %i 2>/dev/null | xargs -r scancel 2>/dev/null || true
    for i in $(seq $(((KILL_WAIT + 10) * 5))); do [ -n "$(squeue -h 2>/dev/null)" ] || break; sleep 0.2; done
  fi
  for i in $(seq $NODES); do stop "$DIR/slurmd-crown$i.pid"; done
  stop "$DIR/slurmctld.pid"; stop "$DIR/munge/munged.pid"
  [ ! -f "$SLURM_CONF" ] || rm -rf "$DIR"      # only a folder that `up` has written
}

status() {
  local rc=0 i
  say() { if alive "$2"; then echo "$1 up"; else echo "$1 down"; rc=3; fi; }
  say munged "$DIR/munge/munged.pid"; say slurmctld "$DIR/slurmctld.pid"
  for i in $(seq $NODES); do say "slurmd crown$i" "$DIR/slurmd-crown$i.pid"; done
  return $rc
}

case ${1:-} in
up) up; exports ;;
env) exports ;;
status) status ;;
down) down ;;
*) echo "usage: $0 up|env|status|down" >&2; exit 2 ;;
esac
