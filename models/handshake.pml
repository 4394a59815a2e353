/* The handshake of two clients with a controller, and an intruder between them. docs/spec/model.md explains it.
 *
 * Values are symbols. A hash or a MAC is the list of what goes into it, and two are equal if these lists are. A line that
 * models code quotes it behind "code:"; tests/conformance/hetee/test_handshake_model.py holds that the code has it.
 */

/* Each fault but 0 weakens one check. The tool tools/handshake_model.py shows that each is found. */
#ifndef FAULT
#define FAULT 0
#endif
#define EVIDENCE_NOT_IN_TRANSCRIPT (FAULT == 1)
#define NO_ROLE_TAG                (FAULT == 2)
#define NONCE_NOT_CHECKED          (FAULT == 3)
#define SIGNATURE_WITHOUT_EXCHANGE (FAULT == 4)
#define CLIENT_MAC_NOT_CHECKED     (FAULT == 5)
#define CONTROLLER_MAC_NOT_CHECKED (FAULT == 6)
#define EXPIRY_NOT_CHECKED         (FAULT == 7)

/* Who made a nonce or a key share. EXPIRED: those of a session that has ended, whose keys the intruder has learned. */
#define CLIENT_0     0
#define CLIENT_1     1
#define CONTROLLER_0 2
#define CONTROLLER_1 3
#define INTRUDER     4
#define EXPIRED      5

/* Evidence. The controller made the first three: for its session 0, for its session 1, for the session that has ended.
 * The intruder makes the others, for any nonce: with the attestation key of a device of her own that the policy accepts;
 * with an attestation key whose certificate has expired; with a key under a root that is not trusted. */
#define EVIDENCE_0        0
#define EVIDENCE_1        1
#define EVIDENCE_EXPIRED  2
#define EVIDENCE_HERS     3
#define EVIDENCE_OUTDATED 4
#define EVIDENCE_FOREIGN  5

/* Identities of clients. The session that has ended was Alice's. */
#define ALICE 0
#define BOB   1
#define EVE   2

/* States of a side. HEARD: it has also accepted a record.
 * code: NEW = 0
 * code: WAITING = 1
 * code: DONE = 2
 * code: DEAD = 3 */
#define NEW     0
#define WAITING 1
#define DONE    2
#define DEAD    3
#define HEARD   4

typedef View {                          /* what one side of a session knows of it */
  byte client_nonce;
  byte client_share;
  byte controller_nonce;
  byte controller_share;
  byte evidence;
  byte identity;
  byte state
}

View client[2], controller[2];          /* two sessions on either side; which belong together is for the intruder */
bool leaked, wrong_evidence, wrong_identity, wrong_transcript;

#define OFFERED(i)  (controller[i].state != NEW)                                     /* it has sent ATTEST */
#define PROVED(j)   (client[j].state == DONE || client[j].state == HEARD)            /* it has sent PROOF, and a record */
#define ADMITTED(i) (controller[i].state == DONE || controller[i].state == HEARD)    /* it has sent a record */

/* Who has the private half of one of the two shares has all secrets of the session. */
#define HAS(share)       (share == INTRUDER || share == EXPIRED)
#define KNOWS_SECRET(v)  (HAS(v.client_share) || HAS(v.controller_share))

/* code: th1 = digest(PROLOGUE, self._hello, opening) */
#define SAME_TH1(a, b) (a.client_nonce == b.client_nonce && a.client_share == b.client_share && \
                        a.controller_nonce == b.controller_nonce && a.controller_share == b.controller_share)
/* code: th2 = digest(th1, len(offer.evidence).to_bytes(4), offer.evidence) */
#define SAME_TH2(a, b) (SAME_TH1(a, b) && (EVIDENCE_NOT_IN_TRANSCRIPT || a.evidence == b.evidence))
/* code: th3 = digest(th2, offer.finished, identity) */
#define SAME_TH3(a, b) (SAME_TH2(a, b) && a.identity == b.identity)
/* code: th4 = digest(th3, signature, finished) */
#define SAME_TH4(a, b) SAME_TH3(a, b)

/* Below, the intruder attaches a session id, MAC, signature or record that fits, if she can make it or has seen it.
 *
 * code: with expand(handshake, "session id", th1, 16).reveal() as session_id: */
#define HAS_SESSION_ID(v) \
  (KNOWS_SECRET(v) || (OFFERED(0) && SAME_TH1(v, controller[0])) || (OFFERED(1) && SAME_TH1(v, controller[1])))
/* code: self.mac_k, self.mac_c = expand(handshake, "mac k", th1), expand(handshake, "mac c", th1)
 * code: self._finished = mac(keys.mac_k, self._th2) */
#define HAS_CONTROLLER_MAC(v) \
  (KNOWS_SECRET(v) || (OFFERED(0) && SAME_TH2(v, controller[0])) || (OFFERED(1) && SAME_TH2(v, controller[1])))

/* What verifies: evidence of the controller answers one th1; what the intruder signs answers what she likes.
 * code: return digest(b"sectum1 attest\0", th1) */
#define NONCE_FITS(v) \
  (NONCE_NOT_CHECKED || v.evidence >= EVIDENCE_HERS || \
   (v.evidence == EVIDENCE_0 && SAME_TH1(v, controller[0])) || \
   (v.evidence == EVIDENCE_1 && SAME_TH1(v, controller[1])) || \
   (v.evidence == EVIDENCE_EXPIRED && v.client_nonce == EXPIRED && v.client_share == EXPIRED && \
    v.controller_nonce == EXPIRED && v.controller_share == EXPIRED))
/* code: if not link[NBF] - CLOCK_SKEW_S <= now_s <= link[EXP] + CLOCK_SKEW_S: */
#define IN_TIME(v) (EXPIRY_NOT_CHECKED || v.evidence != EVIDENCE_OUTDATED)
/* code: self._policy.validate(claims, "controller") */
#define ACCEPTED(v) (v.evidence != EVIDENCE_FOREIGN)
/* Evidence from which a client concludes that it talks to the honest controller. */
#define TRUSTED(v) (v.evidence != EVIDENCE_HERS)

/* code: signature = self._identity.sign(b"sectum1 client proof\0" + th3) */
#define SIGNED_BY(j, v) \
  (PROVED(j) && v.identity == client[j].identity && (SIGNATURE_WITHOUT_EXCHANGE || SAME_TH3(v, client[j])))
#define HAS_SIGNATURE(v) \
  (v.identity == EVE || SIGNED_BY(0, v) || SIGNED_BY(1, v) || (v.identity == ALICE && SIGNATURE_WITHOUT_EXCHANGE))
/* A client's MAC covers its signature.
 * code: finished = mac(keys.mac_c, digest(th3, signature)) */
#define HAS_CLIENT_MAC(v) \
  (KNOWS_SECRET(v) || (SIGNED_BY(0, v) && SAME_TH3(v, client[0])) || (SIGNED_BY(1, v) && SAME_TH3(v, client[1])))

/* A record opens with the secret of one session and one direction.
 * code: self.control_c, self.control_k = expand(root, "control c"), expand(root, "control k") */
#define HAS_RECORD_FOR_CLIENT(v) \
  (KNOWS_SECRET(v) || NO_ROLE_TAG || \
   (ADMITTED(0) && SAME_TH4(v, controller[0])) || (ADMITTED(1) && SAME_TH4(v, controller[1])))
#define HAS_RECORD_FOR_CONTROLLER(v) \
  (KNOWS_SECRET(v) || NO_ROLE_TAG || \
   (PROVED(0) && SAME_TH4(v, client[0])) || (PROVED(1) && SAME_TH4(v, client[1])))

/* --- what must hold --- */

#define OFFERED_TO(v, i) (OFFERED(i) && SAME_TH1(v, controller[i]) && v.evidence == controller[i].evidence)
#define PROVED_TO(v, j)  (PROVED(j) && SAME_TH1(v, client[j]) && v.identity == client[j].identity)
#define SPOKE_TO(v, w)   (SAME_TH4(v, w) && v.evidence == w.evidence)

inline client_believes(j) {             /* when a client has accepted ATTEST */
  leaked = leaked || (TRUSTED(client[j]) && KNOWS_SECRET(client[j]));
  /* The controller made this evidence for this session; or the keys are shared with whom the evidence is about. */
  wrong_evidence = wrong_evidence ||
    (TRUSTED(client[j]) && !OFFERED_TO(client[j], 0) && !OFFERED_TO(client[j], 1)) ||
    (!TRUSTED(client[j]) && !KNOWS_SECRET(client[j]))
}

inline controller_believes(i) {         /* when a controller has accepted PROOF */
  leaked = leaked || (controller[i].identity != EVE && KNOWS_SECRET(controller[i]));
  /* Who was admitted has the keys and means this session, and no other session of the controller is the same. */
  wrong_identity = wrong_identity ||
    (controller[i].identity == EVE && !KNOWS_SECRET(controller[i])) ||
    (controller[i].identity != EVE && !PROVED_TO(controller[i], 0) && !PROVED_TO(controller[i], 1)) ||
    (ADMITTED(0) && ADMITTED(1) && SAME_TH1(controller[0], controller[1]));
  wrong_evidence = wrong_evidence ||
    (PROVED_TO(controller[i], 0) && controller[i].evidence != client[0].evidence) ||
    (PROVED_TO(controller[i], 1) && controller[i].evidence != client[1].evidence)
}

inline client_hears(j) {                /* when a client has accepted a record: the controller sent it in this session */
  wrong_transcript = wrong_transcript || (TRUSTED(client[j]) &&
    !(ADMITTED(0) && SPOKE_TO(client[j], controller[0])) && !(ADMITTED(1) && SPOKE_TO(client[j], controller[1])))
}

inline controller_hears(i) {            /* when a controller has accepted a record: this client sent it in this session */
  wrong_transcript = wrong_transcript || (controller[i].identity != EVE &&
    !(PROVED(0) && SPOKE_TO(controller[i], client[0])) && !(PROVED(1) && SPOKE_TO(controller[i], client[1])))
}

/* --- the roles: what each does with a message --- */

/* code: self._hello = SUITE_NUMBER + secrets.token_bytes(NONCE_BYTES) + self._share.public */
inline client_begins(j, who) {
  client[j].client_nonce = CLIENT_0 + j;
  client[j].client_share = CLIENT_0 + j;
  client[j].identity = who;
  client[j].state = WAITING
}

/* code: evidence = self._attest(attest_nonce(th1)) */
inline controller_takes_hello(i, nonce, share) {
  controller[i].client_nonce = nonce;
  controller[i].client_share = share;
  /* code: share, handshake = answer_share(hello[2 + NONCE_BYTES :])
   * code: opening = secrets.token_bytes(NONCE_BYTES) + share */
  controller[i].controller_nonce = CONTROLLER_0 + i;
  controller[i].controller_share = CONTROLLER_0 + i;
  controller[i].evidence = EVIDENCE_0 + i;
  controller[i].state = WAITING
}

inline client_takes_attest(j, nonce, share, what) {
  client[j].controller_nonce = nonce;
  client[j].controller_share = share;
  client[j].evidence = what;
  if
  /* code: check_session(frame, keys.session_id)
   * code: offer = open_once(keys.seal_k, frame.header, frame.payload[OFFER_AT:], Offer)
   * The intruder has the key of every seal of the handshake, so the seal stops nothing here.
   * code: if not hmac.compare_digest(offer.finished, mac(keys.mac_k, th2)):
   * code: self._check_evidence(offer.evidence, attest_nonce(th1)) */
  :: HAS_SESSION_ID(client[j]) && (CONTROLLER_MAC_NOT_CHECKED || HAS_CONTROLLER_MAC(client[j])) &&
     NONCE_FITS(client[j]) && IN_TIME(client[j]) && ACCEPTED(client[j]) ->
     client[j].state = DONE;
     client_believes(j)
  :: else ->
     client[j].controller_nonce = 0;
     client[j].controller_share = 0;
     client[j].evidence = 0;
     client[j].state = DEAD
  fi
}

inline controller_takes_proof(i, who) {
  controller[i].identity = who;
  if
  /* code: proof = open_once(keys.seal_c, frame.header, frame.payload, Proof)
   * code: identity.verify(proof.signature, b"sectum1 client proof\0" + th3)
   * code: if not hmac.compare_digest(proof.finished, mac(keys.mac_c, digest(th3, proof.signature))):
   * code: if not self._admit(proof.identity):
   * Everyone is admitted. */
  :: HAS_SIGNATURE(controller[i]) && (CLIENT_MAC_NOT_CHECKED || HAS_CLIENT_MAC(controller[i])) ->
     controller[i].state = DONE;
     controller_believes(i)
  :: else ->
     controller[i].identity = 0;
     controller[i].state = DEAD
  fi
}

/* --- the intruder: she delivers each message, or none --- */

/* Sessions of the controller are alike, so the first one that gets a HELLO may be called session 0. */
#define HELLO(i, nonce, share, seen) \
  :: d_step { controller[i].state == NEW && seen && (i == 0 || OFFERED(0)) -> controller_takes_hello(i, nonce, share) }
#define ATTEST(j, nonce, share, what, seen) \
  :: d_step { client[j].state == WAITING && seen -> client_takes_attest(j, nonce, share, what) }
#define PROOF(i, who) \
  :: d_step { controller[i].state == WAITING -> controller_takes_proof(i, who) }
#define RECORD_TO_CLIENT(j) \
  :: d_step { client[j].state == DONE && HAS_RECORD_FOR_CLIENT(client[j]) -> client[j].state = HEARD; client_hears(j) }
#define RECORD_TO_CONTROLLER(i) \
  :: d_step { controller[i].state == DONE && HAS_RECORD_FOR_CONTROLLER(controller[i]) -> \
     controller[i].state = HEARD; controller_hears(i) }

/* Any bytes that she has can be a nonce. A share of a client is none of a controller: it is longer. The nonce of the
 * session that has ended comes with its share: alone it is as good as one that she makes. */
#define HELLOS(i, nonce, seen) \
  HELLO(i, nonce, CLIENT_0, seen) HELLO(i, nonce, CLIENT_1, seen) HELLO(i, nonce, INTRUDER, seen)
#define ALL_HELLOS(i) \
  HELLOS(i, CLIENT_0, true) HELLOS(i, CLIENT_1, true) HELLOS(i, INTRUDER, true) HELLO(i, EXPIRED, EXPIRED, true) \
  HELLOS(i, CONTROLLER_0, OFFERED(0)) HELLOS(i, CONTROLLER_1, OFFERED(1))

#define WITH_EVIDENCE(j, nonce, share, seen) \
  ATTEST(j, nonce, share, EVIDENCE_0, (seen && OFFERED(0))) \
  ATTEST(j, nonce, share, EVIDENCE_1, (seen && OFFERED(1))) \
  ATTEST(j, nonce, share, EVIDENCE_EXPIRED, seen) ATTEST(j, nonce, share, EVIDENCE_HERS, seen) \
  ATTEST(j, nonce, share, EVIDENCE_OUTDATED, seen) ATTEST(j, nonce, share, EVIDENCE_FOREIGN, seen)
#define WITH_SHARE(j, nonce, seen) \
  WITH_EVIDENCE(j, nonce, CONTROLLER_0, (seen && OFFERED(0))) \
  WITH_EVIDENCE(j, nonce, CONTROLLER_1, (seen && OFFERED(1))) \
  WITH_EVIDENCE(j, nonce, INTRUDER, seen)
#define ALL_ATTESTS(j) \
  WITH_SHARE(j, CLIENT_0, true) WITH_SHARE(j, CLIENT_1, true) WITH_SHARE(j, INTRUDER, true) \
  WITH_EVIDENCE(j, EXPIRED, EXPIRED, true) \
  WITH_SHARE(j, CONTROLLER_0, OFFERED(0)) WITH_SHARE(j, CONTROLLER_1, OFFERED(1))

init {
  atomic {
    client_begins(0, ALICE);
    if
    :: client_begins(1, ALICE)          /* one owner with two sessions */
    :: client_begins(1, BOB)
    fi
  }
  end: do
  ALL_HELLOS(0)
  ALL_HELLOS(1)
  ALL_ATTESTS(0)
  ALL_ATTESTS(1)
  PROOF(0, ALICE) PROOF(0, BOB) PROOF(0, EVE)
  PROOF(1, ALICE) PROOF(1, BOB) PROOF(1, EVE)
  RECORD_TO_CLIENT(0) RECORD_TO_CLIENT(1)
  RECORD_TO_CONTROLLER(0) RECORD_TO_CONTROLLER(1)
  od
}

ltl all { [] !(leaked || wrong_evidence || wrong_identity || wrong_transcript) }
ltl secrecy { [] !leaked }
ltl same_evidence { [] !wrong_evidence }
ltl same_identity { [] !wrong_identity }
ltl same_transcript { [] !wrong_transcript }
/* Must be violated: both sessions of honest roles can be finished, with a record in each direction. */
ltl nothing_happens { [] !(client[0].state == HEARD && client[1].state == HEARD &&
  controller[0].state == HEARD && controller[1].state == HEARD &&
  client[0].evidence <= EVIDENCE_1 && client[1].evidence <= EVIDENCE_1 &&
  controller[0].identity != EVE && controller[1].identity != EVE) }
