/* Sessions, key release, leases, reset, both worlds, resizing and crashes: one controller, two sessions, a job, two workers
 * at a time. docs/spec/allocation.md explains it.
 *
 * Sets of accelerators are bits of a byte. Holders are the two workers and the job. What the controller believes is in
 * free, owned, asked and resetting; what is true of the processes is in uses, dirty and key. A line that models code quotes
 * it behind "code:"; tests/conformance/hetee/test_allocation_model.py holds that the code has it.
 */

/* Each fault but 0 leaves one step out. The tool tools/allocation_model.py shows that each is found. */
#ifndef FAULT
#define FAULT 0
#endif
#define GRANT_BEFORE_RESET    (FAULT == 1)
#define TWO_OWNERS            (FAULT == 2)
#define KEY_BEFORE_MEASURED   (FAULT == 3)
#define LOST_RETURNED         (FAULT == 4)
#define STALE_LOST            (FAULT == 5)
#define RECORD_BEFORE_END     (FAULT == 6)
#define WORKER_USED_AGAIN     (FAULT == 7)
#define WORLD_WITHOUT_RESET   (FAULT == 8)
#define REPLAY_ACCEPTED       (FAULT == 9)
#define JOB_NOT_PREEMPTED     (FAULT == 10)
#define SHRINK_WITHOUT_REVOKE (FAULT == 11)

/* Bounds of the search. */
#ifndef ACCELERATORS
#define ACCELERATORS 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif

/* In the search for liveness nobody gives up and jobs never end by themselves, or each wait would end by that; and workers
 * finish their batch before they give back, or are killed. */
#ifndef ENDLESS
#define ENDLESS 0
#endif

#define ALL    ((1 << ACCELERATORS) - 1)
#define JOB    2
#define NOBODY 3
#define PAST   4
#define COUNT(set)  (((set) & 1) + (((set) >> 1) & 1))
#define LOWEST(set) ((set) & -(set))

/* Stages of a worker.
 * code: STARTING = 0
 * code: SPARE = 1
 * code: SERVING = 3
 * code: DRAINING = 4 */
#define DOWN     0
#define MEASURED 1
#define STARTING 2
#define SPARE    3
#define SERVES   4
#define DRAINING 5

/* States of a session.
 * code: OPEN = "open"
 * code: WAITING = "waiting"
 * code: SERVING = "serving"
 * code: CLOSING = "closing" */
#define OPEN    0
#define WAITING 1
#define SERVING 2
#define CLOSING 3
#define CLOSED  4

byte free = ALL, owned[3], asked[3], resetting[3];
byte uses[3];                /* what a process may be computing on */
byte dirty;                  /* what holds traces of its last user */
byte stage[2], serves[2] = NOBODY;
bool measured[2], killed[2], stopping[2];
byte key[2] = NOBODY;        /* whose session key a process has; PAST: of a session that has ended */

byte state[2], mine[2] = NOBODY, wants[2];
bool waits[2], fence[2];     /* a request is with the allocator; a PING after LOST has no PONG yet */
bool sent[2], computing[2];  /* a batch is on its way to the enclave; is in it */
bool stale[2];               /* a batch on its way that was sealed for an enclave that is lost */
byte ahead;                  /* which session was first to ask, if both wait */
bool job_waits;
byte crashes;

bool second_tenant, early_record, twice, misled, residue;

#define HAS_SPARE      (stage[0] == SPARE || stage[1] == SPARE)
#define HELD(s)        (mine[s] == NOBODY -> 0 : COUNT(owned[mine[s]]))
#define GIVES_BACK(s)  (mine[s] != NOBODY && asked[mine[s]] != 0)
/* code: elif request.holder is None or not self.asked(request.holder):  # one that gives back does so first */
#define ABLE(s)        (waits[s] && !GIVES_BACK(s) && (mine[s] != NOBODY || HAS_SPARE))
#define NEEDS(s)       (wants[s] - HELD(s))
#define IS_FIRST(s)    (ABLE(s) && !(ABLE(1 - s) && ahead == 1 - s))
#define COMING         (free | asked[0] | asked[1] | asked[2] | resetting[0] | resetting[1] | resetting[2])

inline ask(s) {
  if
  :: !waits[s] -> waits[s] = true; if :: !waits[1 - s] -> ahead = s :: else fi
  :: else
  fi
}

/* The holder owns these now. */
inline grant(h, set) {
  residue = residue || (dirty & (set));
  free = free & ~(set);
  owned[h] = owned[h] | (set);
  uses[h] = uses[h] | (set);
  dirty = dirty | (set)
}

/* code: self._owners[name] = Resetting(holder) */
inline returned(h, set) {
  owned[h] = owned[h] & ~(set);
  asked[h] = asked[h] & ~(set);
  if
  :: GRANT_BEFORE_RESET -> free = free | (set); dirty = dirty & ~(set)
  :: else -> resetting[h] = resetting[h] | (set)
  fi
}

/* code: self._owners[name] = FREE */
inline confirm(h) {
  uses[h] = uses[h] & ~resetting[h];
  dirty = dirty & ~resetting[h];
  free = free | resetting[h];
  resetting[h] = 0
}

inline withdraw(s) {
  waits[s] = false;
  if :: waits[1 - s] -> ahead = 1 - s :: else fi
}

/* The controller says that an enclave has ended: LOST, or CLEANED.
 * code: tenant.fence = tenant.index */
inline record(s) {
  mine[s] = NOBODY; withdraw(s); computing[s] = false;
  if :: sent[s] -> sent[s] = false; stale[s] = true :: else fi;
  if
  :: state[s] == CLOSING -> state[s] = CLOSED; stale[s] = false
  :: else -> state[s] = WAITING; fence[s] = true
  fi
}

inline end_session(s) {  /* the connection is gone; the worker, if any, has a second to wipe */
  if
  :: mine[s] != NOBODY ->
     stage[mine[s]] = DRAINING; key[mine[s]] = PAST; serves[mine[s]] = NOBODY; mine[s] = NOBODY
  :: else
  fi;
  withdraw(s); state[s] = CLOSED; fence[s] = false; sent[s] = false; computing[s] = false; stale[s] = false
}

inline serve(s, w, set) {
  d_step {
    if
    :: mine[s] == NOBODY ->
       w = (stage[0] == SPARE -> 0 : 1);
       second_tenant = second_tenant || key[w] != NOBODY;
       stage[w] = SERVES; serves[w] = s; mine[s] = w; state[s] = SERVING;
       key[w] = s              /* code: secret = session.worker_secret(vouch) */
    :: else -> w = mine[s]
    fi;
    withdraw(s);
    do
    :: COUNT(owned[w]) < wants[s] ->
       set = (TWO_OWNERS -> LOWEST(ALL & ~owned[w]) : LOWEST(free));
       grant(w, set)
    :: else -> break
    od;
    w = 0; set = 0
  }
}

active proctype controller() {
  byte w, set;
  do
  /* Grants, to nobody before a request ahead of it. */
  :: atomic { IS_FIRST(0) && (COUNT(free) >= NEEDS(0) || TWO_OWNERS) -> serve(0, w, set) }
  :: atomic { IS_FIRST(1) && (COUNT(free) >= NEEDS(1) || TWO_OWNERS) -> serve(1, w, set) }
  :: d_step { job_waits && free != 0 && !ABLE(0) && !ABLE(1) -> job_waits = false; set = LOWEST(free); grant(JOB, set); set = 0 }

  /* Turns: the job at once, an enclave when its quantum is over. code: elif not lease.asked: */
  :: d_step { ((IS_FIRST(0) && COUNT(COMING) < NEEDS(0)) || (IS_FIRST(1) && COUNT(COMING) < NEEDS(1))) &&
              owned[JOB] != 0 && asked[JOB] == 0 && !JOB_NOT_PREEMPTED -> asked[JOB] = owned[JOB] }
  :: d_step { IS_FIRST(0) && COUNT(COMING) < NEEDS(0) && (owned[JOB] & ~asked[JOB]) == 0 && mine[0] != 0 &&
              owned[0] != 0 && asked[0] == 0 -> asked[0] = owned[0] }
  :: d_step { IS_FIRST(0) && COUNT(COMING) < NEEDS(0) && (owned[JOB] & ~asked[JOB]) == 0 && mine[0] != 1 &&
              owned[1] != 0 && asked[1] == 0 -> asked[1] = owned[1] }
  :: d_step { IS_FIRST(1) && COUNT(COMING) < NEEDS(1) && (owned[JOB] & ~asked[JOB]) == 0 && mine[1] != 0 &&
              owned[0] != 0 && asked[0] == 0 -> asked[0] = owned[0] }
  :: d_step { IS_FIRST(1) && COUNT(COMING) < NEEDS(1) && (owned[JOB] & ~asked[JOB]) == 0 && mine[1] != 1 &&
              owned[1] != 0 && asked[1] == 0 -> asked[1] = owned[1] }

  /* A worker that has batches and no accelerator queues again.
   * code: if enclave.tenant is not None and enclave.has_work and not core.pool.allocator.owned(Secure(enclave.number)): */
  :: d_step { mine[0] != NOBODY && (sent[0] || computing[0]) && owned[mine[0]] == 0 && !waits[0] -> ask(0) }
  :: d_step { mine[1] != NOBODY && (sent[1] || computing[1]) && owned[mine[1]] == 0 && !waits[1] -> ask(1) }

  /* Faults. */
  :: d_step { RECORD_BEFORE_END && killed[0] && serves[0] != NOBODY ->
              early_record = true; w = serves[0]; serves[0] = NOBODY; record(w); w = 0 }
  :: d_step { WORKER_USED_AGAIN && stage[0] == DRAINING && !killed[0] && owned[0] == 0 && resetting[0] == 0 ->
              stage[0] = SPARE; if :: serves[0] != NOBODY -> w = serves[0]; serves[0] = NOBODY; record(w); w = 0 :: else fi }
  od
}

/* The controller starts workers, and ends those that exceed a time limit.
 * code: measured = measurement.measure(measurement.in_image(image))
 * code: decisions.append(Halt(lease.holder)) */
#define WATCH(w) \
  do \
  :: d_step { stage[w] == DOWN && !killed[w] -> stage[w] = MEASURED; measured[w] = !KEY_BEFORE_MEASURED } \
  :: d_step { stage[w] == MEASURED -> stage[w] = STARTING } \
  :: d_step { asked[w] != 0 && !killed[w] && !LOST_RETURNED -> killed[w] = true } \
  :: d_step { stage[w] == DRAINING && !killed[w] -> killed[w] = true } \
  od

active proctype watch_0() { WATCH(0) }
active proctype watch_1() { WATCH(1) }

/* What the kernel does: it stops processes, and gives back those that have ended.
 * code: self._allocator.confirm(Secure(number)) */
#define COLLECT(w) \
  d_step { killed[w] && stage[w] != DOWN -> \
    owned[w] = owned[w] | resetting[w]; resetting[w] = owned[w]; owned[w] = 0; asked[w] = 0; uses[w] = 0; confirm(w); \
    killed[w] = false; stopping[w] = false; key[w] = NOBODY; measured[w] = false; stage[w] = DOWN; s = serves[w]; \
    serves[w] = NOBODY; if :: s != NOBODY -> record(s) :: else fi; s = 0 }

#define KERNEL(w) \
  do \
  :: d_step { stopping[w] && !killed[w] -> stopping[w] = false; confirm(w) } \
  :: COLLECT(w) \
  od

active proctype kernel_0() { byte s; KERNEL(0) }
active proctype kernel_1() { byte s; KERNEL(1) }

/* A worker gives back what it was asked for, one accelerator or all, or keeps it; whatever it says, it may go on using it
 * until it is stopped. code: self._environment.stop(enclave.number) */
#define IN_BATCH(w) (ENDLESS && serves[w] != NOBODY && computing[serves[w]])
#define WORKER(w) \
  do \
  :: d_step { stage[w] == STARTING && !killed[w] -> stage[w] = SPARE } \
  :: d_step { asked[w] != 0 && !killed[w] && !LOST_RETURNED && !IN_BATCH(w) -> \
              set = asked[w]; returned(w, set); set = 0; stopping[w] = true } \
  :: d_step { COUNT(asked[w]) == 2 && !killed[w] && !LOST_RETURNED && !IN_BATCH(w) -> \
              set = LOWEST(asked[w]); returned(w, set); set = 0; stopping[w] = true } \
  :: d_step { serves[w] != NOBODY && computing[serves[w]] && owned[w] != 0 && !killed[w] -> computing[serves[w]] = false } \
  od

active proctype worker_0() { byte set; WORKER(0) }
active proctype worker_1() { byte set; WORKER(1) }

/* A client. code: case Configure(): */
#define CLIENT(s) \
  do \
  :: d_step { state[s] == CLOSED -> state[s] = OPEN } \
  :: d_step { state[s] == OPEN -> state[s] = WAITING; wants[s] = 1; ask(s) } \
  :: d_step { state[s] == OPEN && ACCELERATORS > 1 -> state[s] = WAITING; wants[s] = 2; ask(s) } \
  :: d_step { state[s] == SERVING && !sent[s] && !computing[s] -> sent[s] = true } \
  /* RESIZE: growth is a request, shrinkage asks the surplus back. code: lease.request, lease.turn_s, lease.wants = request, now_s, request.count */ \
  :: d_step { state[s] == SERVING && ACCELERATORS > 1 && wants[s] == 1 && !waits[s] && !GIVES_BACK(s) -> wants[s] = 2; ask(s) } \
  :: d_step { state[s] == SERVING && wants[s] == 2 && !waits[s] && !GIVES_BACK(s) && HELD(s) == 2 -> \
              wants[s] = 1; \
              if \
              :: SHRINK_WITHOUT_REVOKE -> owned[mine[s]] = 1; free = free | 2; dirty = dirty & ~2 \
              :: else -> asked[mine[s]] = 2 \
              fi } \
  /* TERMINATE */ \
  :: d_step { state[s] == WAITING && mine[s] == NOBODY && !ENDLESS -> end_session(s) } \
  :: d_step { state[s] == SERVING -> state[s] = CLOSING; stage[mine[s]] = DRAINING } \
  /* PONG comes behind all that was sent before. code: if message.number != tenant.fence: */ \
  :: d_step { fence[s] && !stale[s] -> fence[s] = false; ask(s) } \
  :: d_step { fence[s] && STALE_LOST -> fence[s] = false; ask(s) } \
  od

active proctype client_0() { CLIENT(0) }
active proctype client_1() { CLIENT(1) }

/* The host, which forwards, and may replay, and dies. Without a route it drops what comes. */
#define FORWARD(s) \
  :: d_step { stale[s] && mine[s] == NOBODY -> stale[s] = false } \
  :: d_step { stale[s] && mine[s] != NOBODY -> stale[s] = false; misled = true } \
  :: d_step { sent[s] && mine[s] != NOBODY -> sent[s] = false; computing[s] = true } \
  :: d_step { REPLAY_ACCEPTED && computing[s] && !twice -> twice = true }

active proctype host() {
  do
  FORWARD(0)
  FORWARD(1)
  od
}

active proctype crash() {
  do
  :: d_step { crashes < CRASHES && stage[0] >= STARTING && !killed[0] -> killed[0] = true; crashes++ }
  :: d_step { crashes < CRASHES && stage[1] >= STARTING && !killed[1] -> killed[1] = true; crashes++ }
  :: d_step { crashes < CRASHES -> end_session(0); end_session(1); crashes++ }
  od
}

/* A job of the insecure world, which comes again and again. It ends by itself, or is halted; then it is reset. */
active proctype job() {
  do
  :: d_step { !job_waits && owned[JOB] == 0 && resetting[JOB] == 0 -> job_waits = true }
  :: d_step { owned[JOB] != 0 && (asked[JOB] != 0 || !ENDLESS) -> resetting[JOB] = owned[JOB]; owned[JOB] = 0; asked[JOB] = 0; uses[JOB] = 0 }
  :: d_step { resetting[JOB] != 0 && !WORLD_WITHOUT_RESET -> confirm(JOB) }
  :: d_step { resetting[JOB] != 0 && WORLD_WITHOUT_RESET -> free = free | resetting[JOB]; resetting[JOB] = 0 }
  od
}

/* R1: an accelerator is used by one process, and what one uses is not free. */
ltl exclusive { [] ((uses[0] & uses[1]) == 0 && (uses[0] & uses[2]) == 0 && (uses[1] & uses[2]) == 0 &&
                    (free & (uses[0] | uses[1] | uses[2])) == 0) }
/* R3, R7: no two living workers have the key of one session, and no worker has those of two. */
ltl one_worker { [] (!(key[0] == key[1] && key[0] < JOB) && !second_tenant) }
/* R4, R5: a batch is computed once, by the enclave for which it was sealed. */
ltl own_batches { [] (!twice && !misled) }
/* R6: who has a key was measured before it was started. */
ltl measured_first { [] ((key[0] == NOBODY || measured[0]) && (key[1] == NOBODY || measured[1])) }
/* R7: what is granted holds no trace of its last user, in either world, and an end is told when it is one. */
ltl clean { [] (!residue && !early_record) }
ltl safe { [] ((uses[0] & uses[1]) == 0 && (uses[0] & uses[2]) == 0 && (uses[1] & uses[2]) == 0 &&
               (free & (uses[0] | uses[1] | uses[2])) == 0 && !(key[0] == key[1] && key[0] < JOB) && !second_tenant &&
               !twice && !misled && (key[0] == NOBODY || measured[0]) && (key[1] == NOBODY || measured[1]) &&
               !residue && !early_record) }
/* Liveness: who asks is served, or ends. A batch is answered, or its enclave ends. */
ltl served { [] (waits[0] -> <> !waits[0]) }
ltl answered { [] (computing[0] -> <> !computing[0]) }
/* The search must find the opposite of these, or nothing was checked. */
ltl never_grown { [] !(owned[0] == ALL && serves[0] == 0 && computing[0] && crashes == CRASHES) }
ltl never_shared { [] !(mine[0] != NOBODY && mine[1] != NOBODY && owned[0] != 0 && owned[1] != 0) }
