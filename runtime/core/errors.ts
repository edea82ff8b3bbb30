/**
 * One table of error codes. Codes are stable: scripts and dashboards match on them.
 *
 * Classes: `usage` the caller misused us · `input` something hostile or malformed arrived · `pushback` try again later ·
 * `environment` the machine around us fails · `bug` our own invariant broke.
 */
export type ErrorClass = 'usage' | 'input' | 'pushback' | 'environment' | 'bug';

interface ErrorRow {
  readonly class: ErrorClass;
  /** What the reader can do next: one sentence. */
  readonly hint: string;
}

const row = (cls: ErrorClass, hint: string): ErrorRow => ({ class: cls, hint });

export const ERRORS = {
  // core
  'core.invariant': row('bug', 'This is a defect in Tenzro Edge: report it with the log lines around it.'),
  'core.node_version': row('environment', 'Run through npm (npm start, npx tenzro): it brings the pinned Node; or install Node 24.'),
  'core.system': row('environment', 'The operating system refused: check path, owner, rights and free space.'),
  'queue.full': row('pushback', 'The receiver is behind: retry after the stated time.'),

  // crypto
  'cbor.malformed': row('input', 'The bytes are not deterministic CBOR (RFC 8949 §4.2): they were damaged or altered.'),
  'cose.malformed': row('input', 'The bytes are not a COSE_Sign1 of ours: they were damaged or altered.'),
  'jws.malformed': row('input', 'The signature is no JWS of ours: make it with tenzro fleet sign, and publish the file unaltered.'),
  'hpke.open': row('input', 'The ciphertext does not open with this key: it was sealed to another key, or altered.'),
  'hpke.malformed': row('input', 'The bytes are no key or ciphertext of HPKE with X-Wing: check their length and where they come from.'),
  'hpke.exhausted': row('pushback', 'The encryption context has sealed all that it may: begin a new one.'),
  'tls.certificate': row('input', 'The peer shows no certificate that can be read: check that it speaks TLS 1.3 with a certificate of its own.'),
  'eventlog.malformed': row('input', 'The boot event log does not parse from the stated byte on: it was damaged or altered, or the firmware writes it wrongly.'),
  'ima.malformed': row('input', 'The IMA measurement list does not parse from the stated byte on: it was damaged or altered, or cut while it was read.'),
  'tpm.structure': row('input', 'The TPM structure does not parse: the evidence was damaged or altered.'),

  // config
  'config.unreadable': row('environment', 'Check the path (TENZRO_CONFIG or --config) and that this user may read the file.'),
  'config.syntax': row('usage', 'The file is not YAML: mend it at the stated line and column.'),
  'config.invalid': row('usage', 'Mend the stated keys; docs/reference/configuration.md lists them all, tenzro config show the effective values.'),
  'config.on_trial': row('pushback', 'The configuration before has not proved itself yet: wait until it is confirmed or taken back.'),
  'config.newer_version': row('environment', 'The file was written for a newer Tenzro Edge: upgrade, or use a file with version: 1.'),

  // cli and control socket
  'cli.usage': row('usage', 'See tenzro --help, or --help after the command.'),
  'cli.download': row('environment', 'Nothing usable came from there: try again later, or take the certificates from a folder with --from.'),
  'control.unavailable': row('environment', 'The gateway runs without its control socket, so that tenzro status does not see it: free space in the data directory and start again.'),
  'control.not_running': row('environment', 'Start the gateway, or name its data directory with --data; without --live the proof is verified by itself.'),
  'control.unanswered': row('environment', 'The gateway holds its control socket but does not answer: look at its log, restart it if it hangs.'),

  // TPM driver
  'tpm.unavailable': row('environment', 'No TPM answers there: check that /dev/tpmrm0 exists and this user is in group tss. Blocks go on without hardware evidence.'),
  'tpm.not_installed': row('environment', 'Install the TPM emulator (apt-get install swtpm), or set attest.tpm.mode to device or none.'),
  'tpm.connection': row('environment', 'The TPM went away in the middle of a command; the next block tries again.'),
  'tpm.timeout': row('environment', 'The TPM does not answer; the next block tries again. If it stays so, power the machine off and on.'),
  'tpm.response': row('environment', 'The TPM or the way to it garbles responses; the next block tries again. Check the wiring of an add-on module.'),
  'tpm.hmac': row('environment', 'A response was altered between the TPM and this process: look for a device on the bus.'),
  'tpm.statement': row('environment', 'Somebody answers in the TPM\'s place, or alters what it says: look for a device on the bus. The block says so and carries no evidence; the next one tries again.'),
  'tpm.refused': row('environment', 'The TPM refused the command; the message says why and what to do.'),
  'tpm.busy': row('environment', 'The TPM stayed busy, or another program uses it at the same time; the next block tries again.'),
  'tpm.key_lost': row('environment', 'Load the key again: it was disposed of or flushed, or the TPM was reset.'),
  'tpm.session_lost': row('environment', 'Start another session: after an answer that did not come or was wrong its nonce is unknown.'),
  'tpm.usage': row('usage', 'The TPM driver was asked for something that cannot be; docs/reference/tpm.md and drivers/tpm2/README.md show how.'),
  'tpm.unsupported': row('environment', 'The TPM lacks what attestation needs: enable its SHA-256 bank in the firmware setup, or set attest.tpm.mode to none.'),

  // attest
  'attest.foreign_tpm': row('environment', 'This chain began with another TPM (or this one got a new endorsement seed): move the data directory back to its machine, or begin a new chain.'),
  'attest.foreign_counter': row('environment', 'The NV counter is not the one that this chain began with: somebody deleted it or rolled the TPM back. Find out who; blocks go on with quotes and without a counter.'),
  'attest.challenge_malformed': row('input', 'A challenge is a nonce of 16 to 64 bytes in hexadecimal, and the sequence of a block: {"nonce": "…", "from": 42}.'),
  'attest.too_many_challenges': row('pushback', 'Challenges come faster than blocks are made for them: ask again after the stated time.'),
  'attest.ek_certificate': row('usage', 'Correct attest.tpm.ekCertificateFile: the certificate of this TPM\'s EK first (PEM or DER), then its issuers; or leave it empty to take what the TPM holds.'),
  'attest.foreign_key': row('environment', 'The keys are not those of this chain: put identity/ back from a copy, or begin a new chain (tenzro identity recover --new-chain).'),

  // identity
  'identity.missing': row('environment', 'The chain goes on only with its own keys: put identity/ back from a copy, or begin a new chain (tenzro identity recover --new-chain).'),
  'identity.damaged': row('environment', 'The named file of identity/ is damaged: put it back from a copy, or begin a new chain (tenzro identity recover --new-chain).'),
  'identity.permissions': row('environment', 'Others could read the keys: chmod 600 and chown the file if nobody has read it, else begin a new chain (tenzro identity recover --new-chain).'),
  'identity.io': row('environment', 'The keys cannot be read or written: check the owner and the free space of the data directory.'),
  'identity.newer_version': row('environment', 'The keys were written by a newer Tenzro Edge: upgrade.'),
  'identity.tpm_missing': row('environment', 'The keys open only with the TPM that sealed them: bring it back (tenzro doctor looks for it). Entries are recorded; later blocks cover them.'),
  'identity.tpm_foreign': row('environment', 'Another TPM sealed the keys: move the data directory back to its machine, or begin a new chain (tenzro identity recover --new-chain).'),
  'identity.tpm_cleared': row('environment', 'The TPM was cleared, and what it had sealed is lost: begin a new chain (tenzro identity recover --new-chain). The old one still verifies.'),
  'identity.boot_changed': row('environment', 'Boot what was approved, or have this state approved: tenzro identity request, then tenzro identity approve by the authority, then tenzro identity recover --approval FILE.'),
  'identity.unapproved': row('environment', 'The authority has not approved this state: tenzro identity request, then tenzro identity approve by the authority, then tenzro identity recover --approval FILE.'),
  'identity.revoked': row('environment', 'These keys were revoked, as by a restored old disk image: restore the newest data directory, or begin a new chain (tenzro identity recover --new-chain).'),
  'identity.handle_taken': row('environment', 'Another program keeps an object at a TPM handle of ours: it is left alone. Remove it (tpm2_evictcontrol, tpm2_nvundefine) if nobody needs it.'),
  'identity.tpm_owned': row('environment', 'Somebody else owns the TPM: clear it in the firmware setup if nothing else needs it, else the keys stay in a file.'),
  'identity.approval': row('input', 'The approval does not fit these keys: have what tenzro identity request prints approved by the authority of this gateway.'),
  'identity.authority': row('usage', 'Name a PEM file with a P-256 key: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 makes one.'),
  'identity.rotated': row('environment', 'The keys were changed by intention (tenzro identity rotate): the chain before it still verifies, nothing is to be done.'),
  'identity.recovered': row('environment', 'A new chain was begun by intention (tenzro identity recover --new-chain): the chain before it still verifies, nothing is to be done.'),
  'identity.unheard': row('environment', 'The keys are as they were. Bring that fleet\'s broker and controller up and say it again; with --alone it never hears, and has to revoke, forget and claim the gateway anew.'),
  'identity.not_open': row('usage', 'That needs the open keys: see tenzro identity status for why they are locked.'),
  'identity.running': row('usage', 'Stop the gateway first: it has the keys and the TPM.'),

  // claim
  'claim.code_malformed': row('input', 'A claim code begins with TZ1: and is shown by tenzro claim show; scan or type it again, whole.'),
  'claim.code_mistyped': row('input', 'Compare the stated place with what the gateway shows; 0 and O, 1 and I are different characters.'),
  'claim.code_newer_version': row('usage', 'The gateway is newer: upgrade Tenzro Edge on this machine.'),
  'claim.image': row('usage', 'Name a PNG or JPEG file of at most 40 megapixels.'),
  'claim.no_code': row('input', 'No claim code can be read there: take the picture again, straight, near and sharp, with the white margin on it; or type the code (--code).'),
  'claim.secret_wrong': row('input', 'The code is not the one that the gateway shows now: scan it again. After five failures the gateway must be switched off and on.'),
  'claim.secret_expired': row('input', 'The code was shown more than ten minutes ago, or before the gateway was restarted: show a new one (tenzro claim show).'),
  'claim.secret_none': row('input', 'No code waits to be used: each works once. Show a new one (tenzro claim show).'),
  'claim.claimed': row('input', 'The gateway has an owner already: only its release makes it free again.'),
  'claim.locked': row('input', 'Five wrong codes came one after another: switch the gateway off and on, and ask who else is in reach of it.'),
  'claim.state': row('environment', 'A file in claim/ of the data directory cannot be used: the message says why. Mend its owner and mode; if it is damaged, remove it: its code is lost, show another one.'),
  'claim.not_ready': row('environment', 'A code names the gateway\'s keys, and there are none yet: start the gateway once.'),
  'claim.malformed': row('input', 'The message is not one of this protocol (docs/reference/claim-protocol.md): compare the versions of both sides.'),
  'claim.busy': row('pushback', 'The gateway is in the middle of another claim: try again in two minutes.'),
  'claim.identity': row('input', 'Who answers is not the gateway that showed the code: look for another device on this link, and scan again.'),
  'claim.confirmation': row('input', 'Who answers knows the keys of the gateway but not the secret of its code: claim again, on another link.'),
  'claim.evidence': row('input', 'The gateway cannot show that its keys live in its TPM, or what booted is not accepted: the message says which. Do not take it into the fleet.'),
  'claim.hand_over': row('input', 'The hand-over is not one that this gateway may obey: compare the versions of both sides and begin a new claim.'),
  'claim.apply': row('environment', 'The gateway could not join with what it was given (often a wrong Wi-Fi password): it is as before. Claim again with corrected settings.'),
  'claim.timeout': row('environment', 'The other side did not answer in time: claim again. Where the hand-over was sent already, ask first what became of it.'),
  'claim.not_committed': row('environment', 'The gateway did not become yours, and will not by that claim: claim again.'),
  'claim.store': row('environment', 'The state of the claim could not be written: free space, check the owner of the data directory, claim again.'),
  'claim.abandoned': row('usage', 'The claim was given up before anything was handed over: claim again.'),
  'claim.order': row('input', 'The order is not by an owner of this gateway, or is for another ownership: sign it anew with an owner key.'),
  'claim.listen': row('environment', 'The port for claims cannot be opened: another program has it, or the address is not of this machine. Set claim.port or claim.host; the gateway tries again.'),
  'claim.discovery': row('environment', 'The gateway cannot be found by mDNS on one of its networks: name its address instead (tenzro status shows the port).'),
  'claim.network': row('environment', 'Network settings could not be changed or put back: the message says why. What the gateway has to be allowed is in docs/operate/networks.md; it tries again by itself.'),
  'claim.newer_version': row('environment', 'The record of the owner was written by a newer Tenzro Edge: go back to that version. Until then the gateway takes no claim and no order.'),
  'claim.link': row('environment', 'The connection to the gateway could not be made, or broke before anything was handed over: check cable, address and firewall, and claim again.'),
  'claim.not_found': row('environment', 'No gateway with that code answers on this network: is it switched on, on the same network, and its code still valid? If you know where it is, name it: --address HOST:PORT.'),
  'claim.camera': row('environment', 'No picture comes from a camera: plug one in (/dev/video0) and install ffmpeg, or rpicam-apps on a Raspberry Pi; or take a photo and name it with --image.'),
  'claim.in_doubt': row('environment', 'It is not known yet whether the gateway is yours: bring it into reach and run tenzro fleet claim --resume --dir DIR, as often as it takes.'),
  'claim.refused': row('usage', 'You did not accept the gateway, and nothing was handed over: what stands in policy.yaml of the fleet decides what is asked.'),
  'claim.policy': row('input', 'The fleet does not take such a gateway: change accept and enrol in policy.yaml of the fleet if it shall.'),
  'claim.no_block': row('environment', 'The gateway is yours, and its first block has not come: look at tenzro fleet serve and at tenzro status on the gateway; is the address of the broker right (--broker)?'),
  'claim.shown_over': row('input', 'The code that you showed works no more: show another one (tenzro fleet claim --show); after five wrong answers ask who else saw it.'),
  'claim.unknown': row('usage', 'Name a gateway that was claimed from this folder: tenzro fleet ls lists them.'),

  // topics
  'topic.invalid': row('input', 'Publish on te/device/<child>///{m,e,a}/<type>; see docs/reference/topics.md.'),

  // ingest
  'ingest.utf8': row('input', 'Payloads are JSON in UTF-8: check the encoding of the sender.'),
  'ingest.json': row('input', 'The payload is not JSON: NaN, Infinity, single quotes and trailing commas are not.'),
  'ingest.depth': row('input', 'The JSON nests too deep: a measurement has numbers, and groups of numbers one level deep.'),
  'ingest.shape': row('input', 'The payload must be one JSON object, {"temperature": 21.5}; groups nest one level.'),
  'ingest.empty': row('input', 'The measurement holds no number: leave the message away when there is nothing to say.'),
  'ingest.too_many_channels': row('input', 'Split the measurement over several types: te/<entity>/m/<type>.'),
  'ingest.not_a_number': row('input', 'Channels are JSON numbers; send text as an event, te/<entity>/e/<type>.'),
  'ingest.range': row('input', 'The number is beyond what binary32 can hold: check the sensor and its scaling.'),
  'ingest.name': row('input', 'Channel names are 1 to 128 bytes without dots, slashes, control characters and a leading __.'),
  'ingest.time': row('input', 'time is ISO 8601 with a zone (2026-11-23T10:00:00Z) or seconds since 1970, or is left away.'),
  'ingest.text': row('input', 'text is a string of at most 4,096 bytes.'),
  'ingest.severity': row('input', 'severity is critical, major, minor or warning.'),
  'ingest.units': row('input', 'Metadata is {"units": {"temperature": "°C"}}: channel names to text.'),
  'ingest.registration': row('input', 'A registration is {"@type": "child-device" or "service" or "device", "name": "…"}.'),
  'ingest.unregistered': row('input', 'Publish the retained registration first, or set ingest.registration to auto.'),
  'ingest.too_many_entities': row('input', 'Look for a client that invents entities; remove old ones with an empty retained message on te/<entity>.'),
  'ingest.mapping': row('input', 'The mapping rule found none of its values: compare its paths with the payload (tenzro config show).'),
  'ingest.mapping_rule': row('usage', 'Mend ingest.mappings: a path is names joined by dots, with [n] for array elements.'),

  // broker
  'broker.port_in_use': row('environment', 'Another program listens there: stop it, or choose another port with TENZRO_MQTT_PORT or mqtt.port.'),
  'broker.listener': row('environment', 'The listener cannot be opened: check host, port and certificate files in mqtt.listeners.'),
  'broker.listener_open': row('usage', 'Beyond loopback every listener needs users and anonymous: false; see docs/reference/mqtt.md.'),
  'broker.password_hash': row('usage', 'Make the hash with tenzro config hash-password.'),
  'broker.malformed': row('input', 'The client does not speak MQTT 3.1.1: check its library and that nothing else connects to this port.'),
  'broker.packet_too_large': row('input', 'The client sends packets beyond the limit: send less at a time.'),
  'broker.topic_invalid': row('input', 'Topics are valid UTF-8 without wildcards and NUL, within the limits of docs/reference/mqtt.md.'),
  'broker.topic_reserved': row('input', 'Topics that start with $ belong to the broker: publish elsewhere.'),
  'broker.client_id': row('input', 'Give the client an identifier of its own, without control characters, or let it connect with clean session.'),
  'broker.client_id_taken': row('input', 'Another user is connected under that client id: give each client its own.'),
  'broker.credentials': row('input', 'User name or password is wrong, or missing on a listener that asks for them.'),
  'broker.too_many_attempts': row('pushback', 'Too many failed logins from that address: wait a minute.'),
  'broker.publish_forbidden': row('input', 'The user may not publish there: see mqtt.users[].publish.'),
  'broker.subscribe_forbidden': row('input', 'The user may not subscribe there: see mqtt.users[].subscribe.'),
  'broker.too_many_connections': row('pushback', 'The gateway serves its most clients already: look for clients that reconnect in a loop.'),
  'broker.subscriber_stalled': row('input', 'The subscriber does not read as fast as messages come: it was cut so that others are not slowed.'),
  'broker.timeout': row('input', 'The client did not finish its CONNECT, or was silent beyond its keep-alive.'),
  'broker.retained_full': row('pushback', 'No more retained messages fit: clear old ones with empty retained publishes.'),
  'broker.session_lost': row('pushback', 'A durable session or its oldest queued messages gave way to a limit: let its client connect more often.'),
  'broker.unregistered': row('input', 'No gateway of the fleet has that key: it was never claimed here, or was released or revoked. Claim it with tenzro fleet claim.'),
  'broker.cut': row('input', 'The client may not stay: its gateway was released or revoked, or its password changed.'),
  'broker.internal': row('bug', 'This is a defect in Tenzro Edge: report it with the log lines around it.'),

  // ledger
  'ledger.newer_version': row('environment', 'The data directory was written by a newer Tenzro Edge: upgrade, or point TENZRO_DATA elsewhere.'),
  'ledger.permission': row('environment', 'The data directory belongs to somebody else: run as its owner or chown it.'),
  'ledger.locked': row('environment', 'Another gateway runs on this data directory: stop it first, or point TENZRO_DATA elsewhere.'),
  'ledger.corrupt': row('environment', 'tenzro fsck says where; the gateway sets a damaged chain aside at its next start, whole, and begins a new one that says so.'),
  'ledger.disk_full': row('environment', 'Free space or lower the retention quota; the gateway retries by itself.'),
  'ledger.io': row('environment', 'The disk reported an error: the gateway stops so that nothing is acknowledged that is not stored.'),
  'ledger.no_entry': row('usage', 'No entry has that index: see tenzro log for what is there.'),
  'ledger.pruned': row('usage', 'The entry was pruned under the retention policy: its hash remains, its content does not.'),
  'ledger.not_attested': row('usage', 'No block covers the entry yet: wait for the next one (tenzro proof --wait).'),
  'ledger.not_receipted': row('usage', 'Wait until a fleet has them (--wait; tenzro status shows how far it is), or prove them without --receipted.'),
  'ledger.no_chain': row('usage', 'There is no datachain here yet: start the gateway once (npm start), or set TENZRO_DATA.'),
  'ledger.closed': row('pushback', 'The gateway is stopping: send again when it is back.'),
  'entry.too_large': row('input', 'The entry is larger than the ledger records: send less at a time.'),
  'entry.malformed': row('input', 'The entry does not decode: the store was damaged or altered.'),
  'block.malformed': row('input', 'The block does not decode: the store or bundle was damaged or altered.'),
  'bundle.malformed': row('input', 'The file is not a proof bundle: export it again with tenzro proof.'),

  // confidential entries
  'confidential.key': row('environment', 'Name a key file that tenzro confidential keygen made: FILE for opening, FILE.pub for a recipient in the configuration.'),
  'confidential.not_recipient': row('input', 'Use the private key of one of the recipients that the message names.'),
  'confidential.no_epoch': row('input', 'Export the proof again where the chain still holds the keyEpoch entry: tenzro proof adds it by itself.'),

  // verify
  'bundle.too_large': row('usage', 'Ask tenzro proof for fewer entries at once.'),
  'bundle.newer_version': row('usage', 'The proof was written by a newer Tenzro Edge: verify it with a version at least as new.'),
  'reference.unproven': row('input', 'Make references from a proof that verifies: tenzro verify FILE says what is wrong with this one.'),
  'policy.invalid': row('usage', 'See docs/reference/verifier-checks.md for the keys of a policy file, and docs/policies for examples.'),

  // images and cards
  'flash.image': row('input', 'Download the image again, or unpack it: whole disks as .img or .img.xz are written.'),
  'flash.checksum': row('input', 'Nothing was written: download the image and its SHA256SUMS again, from the same release.'),
  'flash.bmap': row('input', 'Download image and block map again, from the same release; --no-bmap writes every byte without one. A card that was begun shows no system.'),
  'flash.target': row('usage', 'Name a whole disk that nothing uses (tenzro flash IMAGE lists those), or a file; nothing was written.'),
  'flash.fixed': row('usage', 'Look again which disk it is; --force-fixed overwrites it all the same. Nothing was written.'),
  'flash.permission': row('environment', 'Nothing was written: run it again with sudo in front, as writing a disk takes the rights over all of them.'),
  'flash.medium': row('environment', 'Put the card in again, or try another reader, and run the same command again: what was begun shows no system, and repeating is safe.'),
  'flash.verify': row('environment', 'The card is worn out or smaller than it says: take another one; this one shows no system.'),
  'flash.boot_files': row('usage', 'Correct what the message names and run the same command again; without files and settings for the first start the image alone is written.'),

  // building the image
  'image.usage': row('usage', 'See npm run build:image -- --help.'),
  'image.machine': row('environment', 'Build as root on a Debian machine (amd64): npm run build:image makes the tools chroot and the base itself, once.'),
  'image.program': row('environment', 'A program of the build failed; the message has what it said. Nothing half-made was left in the output folder.'),
  'image.content': row('usage', 'The image would not be what it should be: mend what the message names, in image/.'),
  'image.signature': row('usage', 'Name a private key, its certificate and the certificate of its authority (PEM) that belong together.'),
  'image.differs': row('bug', 'Two builds of one commit differ: find what brings time, order or chance into the named files.'),
  'flash.program': row('environment', 'Install what is missing: sudo apt install xz-utils util-linux mtools.'),

  // updates
  'update.bundle': row('input', 'The bundle is damaged, cut, or no bundle: fetch it again from where it was released. What runs stays.'),
  'update.signature': row('input', 'Nobody whom this system trusts signed the bundle: take one from the maker of the image. Find out who offers this one.'),
  'update.compatible': row('input', 'The bundle is for another kind of machine: take the one whose name fits (tenzro update status says which).'),
  'update.older': row('input', 'The bundle is not newer than what runs. To go back on purpose set update.allowDowngrade at the gateway and say it in the command: allow_downgrade, or --allow-downgrade.'),
  'update.digest': row('input', 'The bundle is not the one that was signed for: compare sha256 and bytes with the release, and look who stands between.'),
  'update.changed': row('input', 'The file changed while it was fetched: nothing was installed. Begin again when it stays the same.'),
  'update.source': row('environment', 'The bundle could not be fetched: check the URL from the gateway\'s side; only http and https are followed, without redirections. What runs stays.'),
  'update.unsupported': row('environment', 'This installation has no second slot of that kind: update it as it was installed.'),
  'update.slots': row('environment', 'The slots could not be read or written; what runs stays. The message says why: tenzro update status, and the journal of rauc.'),
  'update.busy': row('pushback', 'An update is under way, or waits for its restart: wait until it has ended (tenzro update status).'),
  'update.on_trial': row('pushback', 'The system that runs has not proved itself yet: wait until it is committed (tenzro update status), a few minutes.'),
  'update.unhealthy': row('environment', 'The system that runs has not proved itself: the message says what is missing. It is started again, and given up after its tries.'),
  'update.returned': row('environment', 'The new system did not prove itself, and the one before runs again: tenzro update status says why. Look at what is missing before another try.'),
  'update.no_way_back': row('environment', 'The other slot holds no good system: install one there first.'),
  'update.state': row('environment', 'The record of an update cannot be read or written: check the owner and the free space of the data directory.'),

  // enrolment
  'x509.malformed': row('input', 'The bytes are no X.509 certificate in DER: they were damaged, cut or padded, or are of another kind.'),
  'enrolment.malformed': row('input', 'The bytes are no enrolment statement: they were damaged or altered, or come from another program.'),
  'enrol.request': row('input', 'The request is not one of this protocol (docs/reference/enrolment.md): compare the versions of gateway and enroller.'),
  'enrol.certificate': row('input', 'The EK certificate does not fit the EK or its issuers: look for another TPM behind this gateway. Without a certificate of a known vendor it can be enrolled on first use only.'),
  'enrol.answer': row('input', 'The answer is late, used already, or wrong: the gateway begins again. If it stays so, the AK is not in the TPM of that EK.'),
  'enrol.challenge': row('input', 'The challenge does not parse or does not open: compare the versions of gateway and enroller, and check that no other enroller answers.'),
  'enrol.busy': row('pushback', 'The enroller holds its most open attempts: begin again after the stated time.'),

  // lease and verifier
  'lease.malformed': row('input', 'The bytes are no lease: they were damaged or altered, or come from another program.'),
  'lease.foreign_verifier': row('input', 'Another key than verifier.key signed it: compare that key with what tenzro verifier init printed on the verifier.'),
  'lease.foreign_chain': row('input', 'The lease was given to another device or chain: nothing here may use it. Look for a client that replays leases.'),
  'lease.stale': row('input', 'The lease answers another challenge or belongs to another boot: it was replayed, or the gateway was restarted meanwhile. It asks again by itself.'),
  'lease.refused': row('environment', 'The verifier does not grant a lease: its reasons name each check; tenzro verifier appraise explains them. The gateway goes on recording and asks again.'),
  'lease.unreachable': row('environment', 'The verifier cannot be reached: check verifier.url, verifier.caFile, the network and that tenzro verifier serve runs. The gateway goes on recording and tries again.'),
  'lease.protocol': row('environment', 'The verifier answers what this gateway does not understand: compare the versions of both.'),
  'lease.enrolment': row('environment', 'The verifier did not enrol this gateway: its message says why. Without enrolment the policy must accept another trust level.'),
  'verifier.directory': row('usage', 'Make the folder with tenzro verifier init; an existing one is never overwritten.'),
  'verifier.key': row('environment', 'Others could read the verifier\'s keys, or they are damaged: chmod 600 and chown them if nobody has read them, else begin anew with tenzro verifier init in another folder.'),
  'verifier.port_in_use': row('environment', 'Another program listens there: stop it, or choose another address with --listen.'),
  'verifier.request': row('input', 'The request is not one of this protocol (docs/reference/lease.md): compare the versions of gateway and verifier.'),
  'verifier.too_large': row('input', 'The request is larger than the verifier reads.'),
  'verifier.client': row('input', 'The client must show a certificate around its ML-DSA-65 identity key, and ask for its own chain only.'),
  'verifier.device': row('input', 'A device keeps its keys: where its data directory was set up anew on purpose, an operator lets it begin again with tenzro verifier forget.'),
  'verifier.nonce': row('input', 'The nonce is not open for this client: ask for a new challenge. Each serves once, for a minute.'),
  'verifier.busy': row('pushback', 'The verifier serves as much as it may: try again after the stated time.'),

  // roll-outs, groups and twins
  'twin.malformed': row('input', 'The message is none of docs/reference/twin.md: compare the versions of gateway and controller, and look who publishes there.'),
  'twin.state': row('environment', 'The stored state of a twin is damaged: the gateway keeps the configuration in force and asks the fleet for it again.'),
  'twin.unknown': row('input', 'This gateway has no twin of that name: it has config.'),
  'twin.operator': row('input', 'Nobody who may config_update here has the key that signed it: sign with an owner key, or put the key into fleet.operators.'),
  'twin.signature': row('input', 'The signature does not fit: the message was altered, or somebody forges it. Look for who may publish there.'),
  'twin.stale': row('input', 'That version is behind the one that this gateway knows: an old message was sent again. The newest version counts.'),
  'twin.conflict': row('usage', 'Somebody changed the twin meanwhile: look at what is desired now, and ask again with its version.'),
  'fleet.query': row('usage', 'Mend the query at the stated column; docs/reference/rollouts.md has its grammar.'),
  'fleet.file': row('usage', 'Mend the stated key; docs/reference/rollouts.md lists those of groups, twins and roll-outs.'),
  'rollout.malformed': row('environment', 'The stored state of a roll-out is damaged: nothing more is sent for it. Begin another one for the gateways that it had not reached.'),

  // uplink and fleet controller
  'uplink.shipment': row('input', 'The bytes are no shipment of a chain: they were damaged or altered, or come from another program.'),
  'uplink.receipt': row('input', 'The bytes are no receipt or answer for this chain by the receiptKey of the uplink: compare that key with what tenzro fleet init printed.'),
  'uplink.newer_version': row('environment', 'The other side is newer: upgrade this one.'),
  'link.offline': row('environment', 'The broker cannot be reached: check url and caFile of the uplink, the network and that the broker runs. The gateway goes on recording and tries again.'),
  'link.packet': row('input', 'The broker sent what no fleet of ours sends, and was cut off; the gateway tries again. Look who runs the broker, and who may publish there.'),
  'link.credentials': row('environment', 'Name a file that only its owner can read (chmod 600) and that holds the password in its first line.'),
  'controller.directory': row('usage', 'Make the folder with tenzro fleet init; an existing one is never overwritten.'),
  'controller.key': row('environment', 'Others could read the receipt key, or it is damaged: chmod 600 and chown it if nobody has read it, else begin anew with tenzro fleet init in another folder.'),
  'controller.unknown': row('usage', 'tenzro fleet ls lists the gateways and chains that the controller has.'),
  'controller.block': row('input', 'The controller does not accept a block: the message names the check of docs/reference/verifier-checks.md. Look at the gateway.'),
  'controller.root': row('input', 'Entries and root of a block do not fit: what came in between was altered on its way. The gateway sends it again.'),
  'controller.gap': row('pushback', 'Something before it is missing: the gateway sends from where the controller says.'),
  'controller.fork': row('input', 'Two different blocks with one number are signed with one key: the gateway was cloned or restored from an old copy. Find out which is the true one; both are frozen.'),
  'controller.unclaimed': row('input', 'No gateway of that name and key is claimed here: claim it (tenzro fleet claim). Where its keys were changed on purpose, tenzro fleet show says what the controller knows; a fleet that claims nobody is made with tenzro fleet init --open.'),
  'controller.revoked': row('input', 'That gateway was revoked: nothing of it is taken. To have it back, tenzro fleet forget it and claim it anew.'),
  'controller.taken': row('usage', 'Choose another name, or see tenzro fleet show for who has it: a revoked or released gateway gives its name back with tenzro fleet forget.'),
  'controller.policy': row('input', 'The chain falls short of policy.yaml, which says shortfall: refuse: the message names the check. Mend the gateway or the policy.'),
  'controller.acts': row('input', "The log of the controller's acts is not as it was written: from the stated index on nothing in it is to be believed. Compare it with an export that you took earlier."),
  'controller.request': row('usage', 'The controller cannot do what it was asked: the message says what is wrong with it.'),
  'controller.offline': row('environment', 'No controller serves in that folder: start tenzro fleet serve --dir DIR in another shell.'),
  'controller.users': row('environment', 'The file of users does not hold: mend it, or remove it and add them again with tenzro fleet broker-user.'),
  'controller.running': row('usage', 'One folder, one controller: stop the other tenzro fleet serve, or name another folder.'),
  'controller.twice': row('environment', 'A copy of this folder serves on the same broker: two with one key would each receipt what the other does not have. Decide which one stays; it has to be started again if both ended. Find out who has a copy.'),
  'controller.unanswered': row('environment', 'The controller went away before it had answered: look at its log, and ask again; what it has done stays done.'),
  'controller.full': row('pushback', 'The controller keeps as much as it may of chains or of entries without a block: look for clients that invent chains.'),

  // commands
  'command.malformed': row('input', 'The message is no command: docs/reference/commands.md shows one, tenzro fleet sign makes one.'),
  'command.version': row('input', 'The command was made for a newer gateway: sign it with the tenzro of this gateway\'s version, or upgrade the gateway.'),
  'command.target': row('input', 'The command was signed for another gateway, target, type or id than it was published for: sign it anew.'),
  'command.no_operators': row('input', 'This gateway obeys nobody: put the public keys of its operators into fleet.operators.'),
  'command.unsigned': row('input', 'The command carries no signature: sign it with tenzro fleet sign.'),
  'command.operator': row('input', 'No operator of this gateway has that key: put its public key into fleet.operators, or sign with another.'),
  'command.signature': row('input', 'The signature does not fit: the command was altered, or somebody forges commands. Look for who may publish there.'),
  'command.forbidden': row('input', 'The operator may not command that: add the type to fleet.operators[].may of this gateway.'),
  'command.expired': row('input', 'The command came after its validity: sign it anew. If its time is right, the gateway\'s clock is ahead; the message says by how much.'),
  'command.stale': row('input', 'The command is older than what this gateway remembers: it may be a replay. Sign it anew with another id.'),
  'command.busy': row('pushback', 'Too many commands wait or run: publish it again when some have ended, or cancel some.'),
  'command.parameters': row('input', 'Correct the parameters: docs/reference/commands.md lists those of each type.'),
  'command.unsupported': row('input', 'This gateway does not do that: what it does is retained on its topics cmd/<type>.'),
  'command.timeout': row('environment', 'The command did not end within its validity: look at the gateway, then sign another one.'),
  'command.cancelled': row('input', 'Another command cancelled it.'),
  'command.interrupted': row('environment', 'The gateway stopped while it executed the command, and does not execute it again: find out what was done, then sign another one.'),
  'command.config': row('environment', 'The configuration file stays as it was: the message says why.'),
  'command.consent': row('input', 'The owner of this gateway has not allowed that: fleet.shell and fleet.driverCalls in its configuration say what is.'),
  'driver.bounds': row('input', 'The value is beyond the bounds that actuators in the configuration gives for the operation.'),
  'driver.rate': row('pushback', 'The operation was called a moment ago: call it again after the stated time.'),
  'driver.refused': row('environment', 'The device received the call and did not do it: the message carries its reason.'),
  'driver.unconfirmed': row('environment', 'The device did not answer in time: whether it acted is not known. Look at it before you call again.'),
  'fleet.certificate': row('input', 'The gateway goes on with the certificate that it has. If your controller sent it, compare ca.pem of its folder with what the gateway was handed; else look who may publish there.'),
  'fleet.revocation': row('input', 'The list counts only if an owner key that still counts signed it, for this fleet, and newer than its last one: look who may publish there, and sign with the other owner key if this one was revoked.'),
  'fleet.key': row('usage', 'Check the path and the passphrase: owner keys are made with tenzro fleet keygen.'),

  // board: what our image finds on its card; portal: its access point
  'board.data_emergency': row('environment', 'What is recorded now ends with the power. Take the card out and copy its data partition if you need what is on it; then tenzro board data reset --yes in a maintenance shell formats it, or flash a new card.'),
  'board.data_readonly': row('environment', 'Nothing is recorded. Restart once: the file system is checked then. If it comes back, the card is at its end: copy its data partition and flash a new one.'),
  'board.data_full': row('environment', 'Nothing more is recorded until there is room: lower ledger.retention.maxBytes by a tenzro.yaml on the boot partition, or use a larger card.'),
  'board.data_repaired': row('environment', 'Look at what is left (tenzro fsck on the stopped gateway), and replace the card soon.'),
  'board.boot_file': row('usage', 'Nothing of that file was taken over. Take the card out, mend the file on its first partition, start again.'),
  'board.boot_partition': row('environment', 'The first partition of the card cannot be read or written: check the card; a lock on it must be off.'),
  'board.no_image': row('usage', 'That is for the Tenzro Edge image; elsewhere the system\'s own tools do it.'),
  'portal.state': row('environment', 'portal/access-point.json of the data directory cannot be used: the message says why. Remove it: another name and passphrase are made.'),
  'portal.access_point': row('environment', 'The access point cannot be opened: the message says why. Use a cable, or a file for Wi-Fi on the boot partition; the gateway tries again by itself.'),
  'portal.listen': row('environment', 'The page of the access point cannot be reached at its address: systemd-networkd must give it (docs/operate/networks.md). The gateway tries again by itself.'),

  // models and inference
  'model.missing': row('environment', 'The package needs manifest.json and model.onnx: install it again, or take its name out of infer.models.'),
  'model.manifest': row('input', 'Correct manifest.json: docs/reference/model-package.md lists its keys.'),
  'model.digest': row('input', 'model.onnx is not the file that the manifest names (truncated or replaced): install the package again.'),
  'model.too_large': row('input', 'The model exceeds what a gateway loads: use a smaller one.'),
  'model.invalid': row('input', 'ONNX Runtime cannot load the graph: export it again, and check it with this release of ONNX Runtime.'),
  'model.shape': row('input', 'The tensors of the graph are not those of the manifest: make them agree.'),
  'model.runtime': row('environment', 'ONNX Runtime has no binary for this machine, or infer.runtimeDir names no onnxruntime-node for it: readings are still recorded, but not judged.'),
  'model.run': row('environment', 'The model failed while it ran: the window was not judged; see the message for what ONNX Runtime said.'),
  'model.archive': row('input', 'A package travels as a plain tar of manifest.json, model.onnx and MODEL_CARD.md and of nothing else: tar -cf model.tar -C FOLDER manifest.json model.onnx MODEL_CARD.md.'),
  'model.source': row('environment', 'The package could not be fetched: check the URL from the gateway\'s side; only http and https are followed, without redirections.'),
  'model.space': row('environment', 'The data directory lacks room for the package: free space, or lower ledger.retention.maxBytes.'),
  'model.store': row('environment', 'Installed models could not be changed; those in use go on: check owner and free space of models/ in the data directory.'),
  'infer.worker': row('environment', 'The inference thread stopped and is started again: it resumes from its cursor.'),
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERRORS;

/** Every error that crosses a room's wall. `code` is stable, `message` is for people, `cause` is kept. */
export class TenzroError extends Error {
  readonly code: ErrorCode;
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; retryAfterMs?: number } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'TenzroError';
    this.code = code;
    this.retryAfterMs = options.retryAfterMs;
  }

  get class(): ErrorClass { return ERRORS[this.code].class; }
  get hint(): string { return ERRORS[this.code].hint; }
}

/** Our own invariant: throws `core.invariant` when it does not hold. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new TenzroError('core.invariant', message);
}

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** An error as another process of ours told it, `{ code, message }`; undefined for what is none. */
export function toldError(told: unknown): TenzroError | undefined {
  const { code, message } = typeof told === 'object' && told !== null ? (told as { readonly code?: unknown; readonly message?: unknown }) : {};
  return typeof code === 'string' && Object.hasOwn(ERRORS, code) && typeof message === 'string' ? new TenzroError(code as ErrorCode, message) : undefined;
}
