/** Every limit of the runtime, with its unit in its name and the relations between them asserted at load. */
import { invariant } from './errors.ts';

export const LIMITS = {
  // front door
  packetBytesMax: 256 * 1024,
  topicBytesMax: 512,
  topicLevelsMax: 16,
  connectionsMax: 1000,
  inFlightPerClientMax: 100,
  subscriberDrainTimeoutMs: 4_000,
  subscriberQueueMax: 1_000,
  connectTimeoutMs: 10_000,
  clientIdBytesMax: 256,
  /** QoS 0 messages of one client that are not flushed yet; beyond, its socket is not read. */
  unflushedPerClientMax: 1_000,
  /** Bytes that may wait in the socket of one subscriber before it is held to be stalled. */
  subscriberBacklogBytesMax: 1024 * 1024,
  /** The same over all subscribers together: the worst are cut first. */
  subscriberBacklogTotalBytesMax: 32 * 1024 * 1024,
  subscriptionsPerClientMax: 256,
  /** QoS 2 handshakes that one client may have open. */
  exactlyOnceOpenMax: 256,
  durableSessionsMax: 1_000,
  sessionQueueBytesMax: 8 * 1024 * 1024,
  sessionQueuesTotalBytesMax: 64 * 1024 * 1024,
  /** What a connected durable client has not acknowledged for this long goes to disk. */
  sessionWriteBehindMs: 1_000,
  retainedMax: 10_000,
  retainedBytesMax: 16 * 1024 * 1024,
  passwordChecksQueuedMax: 200,
  loginFailuresMax: 5,
  loginLockMaxMs: 60_000,
  logLineIntervalMs: 10_000,

  // decoding
  /** Shelly's status messages nest five deep. */
  jsonDepthMax: 8,
  channelsPerReadingMax: 128,
  channelNameBytesMax: 128,
  textBytesMax: 4_096,
  /** Largest finite binary32: what models and other readers can hold. */
  valueMagnitudeMax: 3.4028234663852886e38,
  /** Entities that may be registered; one more is refused. */
  entitiesMax: 4_096,
  /** Topics whose parse and last values are kept; the oldest gives way. */
  topicPlansMax: 8_192,
  /** Open summary windows; the oldest is closed early. */
  summaryWindowsMax: 1_024,
  /** Accepted messages kept per client to recognise its redeliveries. */
  redeliveryWindowMax: 128,
  redeliveryClientsMax: 2_000,
  /** The same for messages read back from the log at start, over all clients. */
  redeliveryRestoredMax: 8_192,

  // confidential entries
  recipientsMax: 8,
  /** A content key seals this many entries, or for this long: then a new one begins. */
  keyEpochEntriesMax: 1_000_000,
  keyEpochMs: 86_400_000,
  /** Epochs whose redeliveries are still recognised; older tags mean nothing to anybody any more. */
  tagKeysMax: 4,
  /** How far a proof looks around the place where a `keyEpoch` entry should stand: clocks are read before the order of the log is settled. */
  keyEpochSearchEntries: 4_096,

  // ledger
  batchEntriesMax: 1_024,
  batchBytesMax: 1024 * 1024,
  batchDelayMs: 10,
  /** An idle writer gets a batch of this size at once: it fills enough pages to be worth a flush, and under load waiting would only cost throughput. */
  batchEagerEntries: 128,
  /** A batch that nobody waits for may wait longer: it saves the card. */
  batchIdleDelayMs: 250,
  pendingBytesMax: 16 * 1024 * 1024,
  entryBytesMax: 512 * 1024,
  tileHashes: 256,
  /** Address space of the chain's file: the most it can ever grow to. */
  mapBytes: 64 * 1024 ** 3,
  /** Newest entries that the decoder sees again after a start. */
  rememberEntriesMax: 10_000,
  /** How often an idle writer looks for what time alone makes due. */
  dueIntervalMs: 1_000,
  /** Pause after a write that failed for want of space: doubles from the first to the second. */
  writeRetryMs: 100,
  writeRetryMaxMs: 5_000,
  /** A change of wall against monotonic clock that is worth an entry. */
  clockStepMicros: 2_000_000,
  /** Segments that one step of retention removes. */
  pruneSegmentsMax: 16,
  rejectsToldPerBatchMax: 16,

  // blocks
  blockIntervalMs: 10_000,
  idleBlockIntervalMs: 600_000,
  anchorIntervalMs: 600_000,
  /** Alarms that come faster share a block. */
  alarmBlockIntervalMs: 1_000,
  /** Challenges answered in a row; then one every interval, as a growing log gets blocks. */
  challengesAtOnceMax: 6,
  challengeIntervalMs: 10_000,
  proofLinksMax: 4_096,
  bundleBytesMax: 64 * 1024 * 1024,
  /** CBOR items in a bundle's body, and again in all its entries: a hostile file of tiny items must not cost gigabytes to decode. */
  bundleItemsMax: 1_000_000,
  /** One block's COSE message or evidence inside a bundle. */
  blockBytesMax: 64 * 1024,

  // inference
  inferBatchMax: 32,
  inferLagEntriesMax: 200_000,
  /** Entries that the follower reads at a time. */
  inferReadEntriesMax: 1_024,
  /** Sources that one model watches at once; further ones are counted and not judged. */
  inferSourcesMax: 1_024,
  modelBytesMax: 64 * 1024 * 1024,
  modelManifestBytesMax: 64 * 1024,
  modelCardBytesMax: 256 * 1024,
  modelWindowReadingsMax: 4_096,

  // measured boot
  /** A TCG event log must fit one entry; real ones have 10 to 70 KiB. */
  bootLogBytesMax: 448 * 1024,
  /** IMA's list, over all its chunks. */
  imaLogBytesMax: 4 * 1024 * 1024,
  imaChunkBytesMax: 448 * 1024,
  /** Growths of IMA's list that are recorded at once; after that one per interval. */
  imaBurstMax: 16,
  imaIntervalMs: 600_000,

  // enrolment
  /** One X.509 certificate in DER; real EK certificates and their issuers have 0.8 to 2.5 KiB. */
  certificateBytesMax: 4 * 1024,
  /** Of a gateway's certificate with its issuers behind it, as its fleet sends it: how many, and their PEM. */
  certificateChainMax: 4,
  certificateChainBytesMax: 32 * 1024,
  /** What one owner key may take back, all together, and the message that says so. */
  revocationsMax: 64,
  revocationBytesMax: 48 * 1024,
  revocationWhyBytesMax: 240,
  /** An EK certificate and its intermediates, as a TPM or a genesis carries them. */
  ekCertificatesMax: 8,
  /** Certificates in a policy or a PEM bundle of issuers. */
  issuersMax: 512,
  enrolmentMessageBytesMax: 48 * 1024,
  /** A hardware TPM takes many seconds to make an RSA EK before it can answer. */
  enrolmentLifetimeMs: 120_000,
  enrolmentsOpenMax: 256,

  // claim
  /** An offer carries an enrolment request, two keys and a signature. */
  claimMessageBytesMax: 56 * 1024,
  /** Answer to the credential challenge, and a quote. */
  claimEvidenceBytesMax: 16 * 1024,
  claimHandOverBytesMax: 40 * 1024,
  /** From hello to hand-over, on either side: a hardware TPM takes many seconds. */
  claimSessionMs: 120_000,
  /** How long the operator may look at words and certificates. */
  claimJudgeMs: 600_000,
  /** How long a gateway tries the networks that it was given. */
  claimApplyMs: 90_000,
  claimWriteMs: 30_000,
  claimFailuresMax: 5,
  claimConnectionsMax: 8,
  /** A peer that has not confirmed the code's secret has this long for a message, and this long in all. */
  claimIdleMs: 20_000,
  claimConnectionMs: 150_000,
  /** Messages of one address, and of all: so many at once, then one per interval. Each may cost a signature. */
  claimBurst: 24,
  claimRefillMs: 1_000,
  claimTotalBurst: 64,
  claimTotalRefillMs: 100,
  claimAddressesMax: 1_024,
  /** How long a gateway is looked for on the local network. */
  claimFindMs: 15_000,

  // lease and verifier
  /** How long a challenge may be answered. */
  nonceLifetimeMs: 60_000,
  noncesOpenMax: 4_096,
  noncesPerClientMax: 4,
  /** A request to the verifier, and its answer: a bundle with the logs of a boot. */
  verifierBodyBytesMax: 16 * 1024 * 1024,
  verifierConnectionsMax: 256,
  verifierConnectionsPerAddressMax: 32,
  /** Bodies that are being read or judged, all together: who sends slowly holds little. */
  verifierBufferBytesMax: 64 * 1024 * 1024,
  verifierRequestTimeoutMs: 15_000,
  /** Requests of one client, and of one address with all that stand behind it: so many at once, then one per interval. */
  verifierBurst: 24,
  verifierRefillMs: 2_000,
  verifierAddressBurst: 480,
  verifierAddressRefillMs: 100,
  verifierClientsMax: 8_192,
  /** Chains that a verifier remembers: one more is refused. */
  verifierChainsMax: 100_000,
  /** Longest lease that a policy may ask for, and that a gateway accepts. */
  leaseSecondsMax: 7 * 24 * 3_600,
  leaseSecondsMin: 2,
  /** Pause after a failed attempt at a lease: doubles from the first to the second. */
  leaseRetryMs: 1_000,
  leaseRetryMaxMs: 300_000,
  leaseRequestTimeoutMs: 20_000,

  // roll-outs, groups and twins
  twinValueBytesMax: 32 * 1024,
  twinSignatureBytesMax: 8 * 1024,
  twinReasonBytesMax: 1_024,
  /** A value with its signature (ML-DSA-65 takes 4.4 KiB in base64url) and the other members. */
  twinMessageBytesMax: 48 * 1024,
  twinDepthMax: 8,
  twinValuesMax: 2_048,
  /** Below, a link that only has to come up again would look lost. */
  twinConfirmSecondsMin: 10,
  twinConfirmSecondsMax: 86_400,
  /** Starts of the gateway that one probation survives: a configuration that makes it crash in a loop must end. */
  twinProbationStartsMax: 3,
  /** Pause before a revert that failed is tried again. */
  twinRevertRetryMs: 5_000,
  queryCharactersMax: 1_024,
  /** Tests and literals of one query. */
  queryTermsMax: 64,
  queryDepthMax: 16,
  fleetFileBytesMax: 64 * 1024 * 1024,
  fleetGatewaysMax: 100_000,
  groupsMax: 1_000,
  rolloutGatewaysMax: 20_000,
  /** Roll-outs that a controller keeps; those that ended longest ago give way. */
  rolloutsMax: 20,
  /** Roll-outs whose messages are being handed in. */
  rolloutsPreparedMax: 4,
  rolloutStagesMax: 16,
  rolloutAttemptsMax: 5,
  rolloutReasonCharactersMax: 200,
  /** Longest soak, and longest wait for one answer. */
  rolloutSecondsMax: 30 * 24 * 3_600,

  // uplink and fleet controller
  /** Fleets that one gateway reports to by its configuration. */
  uplinksMax: 8,
  /** A shipment ends at the first leaf or block beyond this many bytes, before compression. */
  shipmentTargetBytes: 256 * 1024,
  /** Before compression, and compressed: NATS takes 1 MiB at a time by default. */
  shipmentBytesMax: 1024 * 1024,
  shipmentLeavesMax: 8_192,
  shipmentBlocksMax: 128,
  /** A shipment without an answer is sent again after this; the wait doubles up to the maximum. */
  uplinkAnswerMs: 5_000,
  uplinkAnswerMaxMs: 300_000,
  /** Pause before connecting again: doubles from the first to the second. */
  linkRetryMs: 500,
  linkRetryMaxMs: 60_000,
  /** From a broker: beyond what those of others should let pass (2 MiB), so that only the broker itself can cut the connection by it. */
  linkPacketBytesMax: 4 * 1024 * 1024,
  /** Published and not acknowledged by the broker: beyond that nothing more is published. */
  linkUnacknowledgedBytesMax: 32 * 1024 * 1024,
  /** Shipments that the controller holds in memory, all together: more are left to be sent again. */
  intakeBytesMax: 64 * 1024 * 1024,
  /** Entries of one chain that no block covers yet at the controller. */
  provisionalBytesMax: 4 * 1024 * 1024 * 1024,
  /** Chains that a controller keeps: one more is refused. */
  controllerChainsMax: 100_000,
  /** Pause between looks at the fleet's policy file. */
  policyPollMs: 5_000,
  /** Chains that one gateway begins before an operator has to look. */
  gatewayChainsMax: 64,
  /** Chains of one gateway that no block covers yet: of more the one that was silent longest is forgotten. */
  gatewayBlocklessChainsMax: 4,
  /** Twins that one gateway reports. */
  gatewayTwinsMax: 16,
  /** Commands that the controller's desk takes at once, that have not ended there, and that it remembers after their end. */
  deskSubmitMax: 256,
  deskOpenMax: 50_000,
  /** A command of which its gateway says nothing new is published again after this; the wait doubles up to the maximum, until a new word or connect. */
  deskRepeatMs: 15_000,
  deskRepeatMaxMs: 3_600_000,
  deskHistoryMax: 50_000,
  /** A request of the command line to the controller: some 10,000 signed commands. Larger ones are handed over in parts. */
  apiRequestBytesMax: 64 * 1024 * 1024,
  apiRequestValuesMax: 2_000_000,
  /** Requests that are being read, all together. */
  apiBufferBytesMax: 128 * 1024 * 1024,
  apiRequestTimeoutMs: 60_000,
  apiConnectionsMax: 64,
  /** What an asker may leave unread of its answer before it is cut. */
  apiBacklogBytesMax: 16 * 1024 * 1024,
  /** The fleet's own broker: a shipment with its topic. */
  fleetPacketBytesMax: 1024 * 1024 + 1024,
  fleetConnectionsMax: 10_000,
  /** Status, capabilities, twins, commands and receipts of that many gateways. */
  fleetRetainedMax: 400_000,
  fleetRetainedBytesMax: 512 * 1024 * 1024,
  fleetRetainedPerGatewayMax: 2_048,
  fleetRetainedPerGatewayBytesMax: 8 * 1024 * 1024,
  fleetBacklogTotalBytesMax: 256 * 1024 * 1024,

  // commands
  operatorsMax: 8,
  commandBytesMax: 64 * 1024,
  commandIdCharsMax: 64,
  commandResultBytesMax: 32 * 1024,
  /** Longest validity of a command: those of a roll-out are signed when it begins, and last until its end. */
  commandSecondsMax: 60 * 24 * 3_600,
  interactiveCommandMs: 30_000,
  /** Commands that have not ended; one more is refused. */
  commandsOpenMax: 32,
  /** Of one key; the one issued first is forgotten, and none issued before it is ever taken again. */
  commandsRememberedMax: 256,
  /** Refusals that are checked, answered and recorded one by one; then one more every interval, which counts those between. */
  refusalBurst: 16,
  refusalIntervalMs: 10_000,
  /** Signatures that did not fit are judged at once so often; then one more every interval. */
  forgeriesAtOnceMax: 200,
  forgeryIntervalMs: 10,
  /** The newest lines of this run's log that log_upload can send, and the most of one line. */
  logRingBytesMax: 256 * 1024,
  logRingLineBytesMax: 4_096,
  logUploadLinesMax: 10_000,
  /** Of each stream of a shell command that is kept: its end, as it takes room in JSON. */
  shellOutputBytesMax: 15 * 1024,
  /** Ends before the 30 s of an interactive command do. */
  shellSecondsMax: 25,
  actuatorsMax: 64,
  actuatorTimeoutMsMax: 20_000,
  maintenanceWindowsMax: 32,
  /** Pause before a fetch (of a bundle too) is taken up again: doubles from the first to the second, and starts anew when bytes came. */
  modelFetchRetryMs: 250,
  modelFetchRetryMaxMs: 30_000,
  /** A server that says nothing for so long is asked again. */
  modelFetchSilenceMs: 15_000,
  /** A model that has not loaded by then never does. */
  modelProbeMs: 60_000,
  /** Stays free beside a package and what is unpacked of it. */
  modelSpareBytes: 64 * 1024 * 1024,
  /** A bundle: more does not fit a slot. */
  updateBundleBytesMax: 2 * 1024 * 1024 * 1024,
  /** What is fetched and kept of a bundle at a time; how many such blocks, and how many beyond the one that was asked for. */
  updateBlockBytes: 256 * 1024,
  updateBlocksMax: 24,
  updateBlocksAhead: 8,
  /** End of a bundle, with its signature and what that says (RAUC takes 64 KiB): read once, and the same to everybody. */
  updateTailBytes: 64 * 1024 + 8,
  /** Without a byte for so long the link is dead: the kernel gives a network block device up after 300 s. */
  updateGiveUpMs: 240_000,
  /** A system on trial: as configured by default, how long it must be healthy without a break, and the pause between two looks. */
  updateTrialMs: 600_000,
  updateSteadyMs: 20_000,
  updateLookMs: 2_000,
  /** What is to be told to the chain and was not yet. */
  updateEventsMax: 64,
  /** One answer of RAUC's service. */
  updateAnswerMs: 60_000,
  /** An idle follower of commands moves its cursor on. */
  commandCursorMs: 60_000,

  // TPM
  tpmCommandBytesMax: 4_096,
  tpmTimeoutMs: 30_000,
  /** Answers of RETRY, YIELDED, TESTING or NV_RATE to one command before it is given up; the wait doubles from 5 ms to the maximum. */
  tpmRetriesMax: 12,
  tpmRetryDelayMaxMs: 1_000,
  /** A TPM that failed is tried again at the first block after this; the wait doubles up to the maximum. */
  anchorRetryDelayMs: 1_000,
  anchorRetryDelayMaxMs: 300_000,
} as const;

invariant(LIMITS.packetBytesMax + LIMITS.textBytesMax < LIMITS.entryBytesMax, 'a packet must fit an entry');
invariant(Math.max(LIMITS.bootLogBytesMax, LIMITS.imaChunkBytesMax) + 1_024 <= LIMITS.entryBytesMax, 'a measured log must fit an entry');
invariant(LIMITS.entryBytesMax <= LIMITS.batchBytesMax, 'an entry must fit a batch');
invariant(LIMITS.batchBytesMax * 2 <= LIMITS.pendingBytesMax, 'two batches must fit the pending bound');
invariant(LIMITS.inFlightPerClientMax <= LIMITS.redeliveryWindowMax, 'all that a client may send again must be recognised');
invariant(LIMITS.connectionsMax <= LIMITS.redeliveryClientsMax, 'every connected client needs its redelivery window');
invariant(LIMITS.topicBytesMax < LIMITS.packetBytesMax, 'a topic must fit a packet');
invariant(LIMITS.blockIntervalMs <= LIMITS.idleBlockIntervalMs, 'an idle gateway seals more rarely, not more often');
invariant(LIMITS.packetBytesMax <= LIMITS.subscriberBacklogBytesMax, 'one packet must fit the backlog of a subscriber');
invariant(LIMITS.sessionQueueBytesMax <= LIMITS.sessionQueuesTotalBytesMax, 'one queue must fit the total of the queues');
invariant(LIMITS.certificateBytesMax * LIMITS.ekCertificatesMax + 8 * 1024 <= LIMITS.enrolmentMessageBytesMax, 'an EK\'s certificates and the keys must fit an enrolment request');
invariant(LIMITS.enrolmentMessageBytesMax <= LIMITS.blockBytesMax, 'what a request carries must fit a genesis');
invariant(LIMITS.commandBytesMax + LIMITS.commandResultBytesMax < LIMITS.packetBytesMax, 'a command with its result must fit a packet');
invariant(2 * LIMITS.shellOutputBytesMax + 1_024 <= LIMITS.commandResultBytesMax, 'both streams must fit a result');
invariant((LIMITS.shellSecondsMax + 2) * 1_000 <= LIMITS.interactiveCommandMs && LIMITS.actuatorTimeoutMsMax < LIMITS.interactiveCommandMs, 'who waits for an answer hears why there is none');
invariant(LIMITS.commandsOpenMax < LIMITS.commandsRememberedMax, 'there must always be an ended command to forget');
invariant(LIMITS.enrolmentMessageBytesMax + 6 * 1024 <= LIMITS.claimMessageBytesMax, 'an enrolment request, a key and a signature must fit an offer');
invariant(LIMITS.claimHandOverBytesMax < LIMITS.claimMessageBytesMax, 'a hand-over must fit a message');
invariant(LIMITS.claimSessionMs < LIMITS.claimConnectionMs, 'a connection outlives a session that waits for its secret');
invariant(LIMITS.noncesPerClientMax < LIMITS.noncesOpenMax, 'one client must not hold every nonce');
invariant(LIMITS.verifierBodyBytesMax <= LIMITS.verifierBufferBytesMax, 'one request must fit the buffer of all');
invariant(LIMITS.verifierConnectionsPerAddressMax < LIMITS.verifierConnectionsMax, 'one address must not hold every connection');
invariant(LIMITS.verifierRequestTimeoutMs < LIMITS.nonceLifetimeMs, 'a nonce must outlive the request that answers it');
invariant(LIMITS.verifierRequestTimeoutMs < LIMITS.leaseRequestTimeoutMs, 'the verifier gives up before the gateway does');
invariant(LIMITS.twinValueBytesMax + LIMITS.twinSignatureBytesMax + LIMITS.twinReasonBytesMax < LIMITS.twinMessageBytesMax, 'a twin\'s value must fit its messages');
invariant(LIMITS.twinMessageBytesMax <= LIMITS.packetBytesMax, 'a twin must fit a packet');
invariant(LIMITS.shipmentTargetBytes + LIMITS.entryBytesMax + 2 * LIMITS.blockBytesMax < LIMITS.shipmentBytesMax, 'an entry and a block must fit a shipment');
invariant(LIMITS.linkPacketBytesMax >= 2 * LIMITS.fleetPacketBytesMax, 'what a broker lets pass must not cut a link');
invariant(LIMITS.shipmentBytesMax + LIMITS.topicBytesMax + 16 <= LIMITS.fleetPacketBytesMax, 'a shipment must fit a packet of the fleet\'s broker');
invariant(LIMITS.apiRequestBytesMax <= LIMITS.apiBufferBytesMax, 'one request must fit the buffer of all');
invariant(LIMITS.updateTailBytes <= 2 * LIMITS.updateBlockBytes && LIMITS.updateBlocksAhead + 4 < LIMITS.updateBlocksMax, 'what is asked for and what is fetched ahead must fit beside the end of a bundle');
invariant(LIMITS.modelFetchSilenceMs + 2 * LIMITS.modelFetchRetryMaxMs < LIMITS.updateGiveUpMs, 'a silent link must be asked again before it is given up');
invariant(LIMITS.shipmentBytesMax <= LIMITS.intakeBytesMax, 'one shipment must fit the intake of all');
