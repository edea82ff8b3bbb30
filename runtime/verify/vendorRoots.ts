/**
 * Roots of TPM makers, as facts: the certificates themselves are not here. One that a policy, a genesis or a file of issuers brings is a trust anchor when
 * its fingerprint stands in this table; `tenzro ek-roots fetch` brings them from their makers. Looked up on 2026-11-23; docs/reference/enrolment.md says how.
 */
import { toHex } from '#runtime/core/bytes.ts';
import type { TpmVendor } from '#runtime/crypto/ekCertificate.ts';

/** TCG Vendor ID Registry: the IDs that the EK certificates below a maker's roots name. */
const VENDORS = {
  AMD: { name: 'AMD', manufacturers: ['AMD'] },
  IFX: { name: 'Infineon', manufacturers: ['IFX'] },
  INTC: { name: 'Intel', manufacturers: ['INTC'] },
  MSFT: { name: 'Microsoft', manufacturers: ['MSFT'] },
  NSG: { name: 'NSING', manufacturers: ['NSG'] },
  NTC: { name: 'Nuvoton', manufacturers: ['NTC'] },
  NTZ: { name: 'Nationz', manufacturers: ['NTZ'] },
  STM: { name: 'STMicroelectronics', manufacturers: ['STM'] },
} as const satisfies Record<string, TpmVendor>;

/**
 * Where the same fingerprint was found: `collection` (github.com/loicsikidi/tpm-ca-certificates at 366e970a, with each maker's document or URL as evidence),
 * `debian` (package ruby-tpm-key-attestation 0.11.0-1), `keylime` (github.com/keylime/keylime at 9b1f6e6a, tpm_cert_store).
 */
export type Provenance = 'collection' | 'debian' | 'keylime';

export interface VendorRoot {
  readonly vendor: keyof typeof VENDORS;
  /** What tells it from others of that maker. */
  readonly subject: string;
  readonly seenIn: readonly Provenance[];
  /** Where its maker publishes it. */
  readonly url: string;
  /** SHA-256 of the certificate's DER, and of its SubjectPublicKeyInfo. */
  readonly certificate: string;
  readonly key: string;
}

export const VENDOR_ROOTS: readonly VendorRoot[] = [
  { vendor: 'AMD', subject: 'CN=AMDTPM, OU=Engineering', seenIn: ['collection'],
    url: 'https://ftpm.amd.com/pki/aia/23452201D41C5AB064032BD23F158FEF',
    certificate: '14aac9fd58471a612afd75d8c0955daf99f091b1863702f9e0d4113faf234f9d', key: '5cf1859ffbd2cd18c13345d47692bea4ea2464fbfb74298364fa979e833229f6' },
  { vendor: 'AMD', subject: 'CN=AMDTPM, OU=Engineering', seenIn: ['collection'],
    url: 'https://ftpm.amd.com/pki/aia/264D39A23CEB5D5B49D610044EEBD121',
    certificate: '67bd2472a546751caca5f358a78f80727531671338960a9bcfdfbe6a34d0c6a1', key: '899b9c9d6e926c40aaefbea3905173f00f7b52ad6eb4d2d32e6fcb1979710e2b' },
  { vendor: 'IFX', subject: 'CN=Infineon OPTIGA(TM) ECC Root CA', seenIn: ['collection', 'debian', 'keylime'],
    url: 'https://pki.infineon.com/OptigaEccRootCA/OptigaEccRootCA.crt',
    certificate: 'cfeb02fecd55ad7a73c6e1d11985d4c47dee248ab63dcb66091a2489660443c3', key: 'ce5183a19d6fe79a6c1b058cfa700379f67d587a8afd0f51621e82d9f00c5a28' },
  { vendor: 'IFX', subject: 'CN=Infineon OPTIGA(TM) ECC Root CA 2', seenIn: ['collection'],
    url: 'https://pki.infineon.com/OptigaEccRootCA2/OptigaEccRootCA2.crt',
    certificate: 'ee0c827555c4e9012037df4257bb8aaa26084a17b13ede41cd7895c8d6c11190', key: 'f21c8db44a3df3a43465230d30846f5fea08afa4428b982ff922065528c81f19' },
  { vendor: 'IFX', subject: 'CN=Infineon OPTIGA(TM) RSA Root CA', seenIn: ['collection', 'debian', 'keylime'],
    url: 'https://pki.infineon.com/OptigaRsaRootCA/OptigaRsaRootCA.crt',
    certificate: '899e35474c9807eb4c7f2f7a12da0028fb250cd02154d0009fca7d9c66574f3b', key: '8a705088efa28a3845b35c7fcbf9c0f4bf46c77da18a6f1a173eb9074610cbd0' },
  { vendor: 'IFX', subject: 'CN=Infineon OPTIGA(TM) RSA Root CA 2', seenIn: ['collection'],
    url: 'https://pki.infineon.com/OptigaRsaRootCA2/OptigaRsaRootCA2.crt',
    certificate: 'b413c71580af3ec5efe83fad31db2d4af4612355e3b01e50903b10763d738894', key: 'd821e2a37a846f9f3a66a82c9346f18cc418c418fb6c55e933b25aee54afe8de' },
  { vendor: 'INTC', subject: 'CN=www.intel.com, OU=TPM EK root cert signing', seenIn: ['debian', 'keylime'],
    url: 'http://upgrades.intel.com/content/CRL/ekcert/EKRootPublicKey.cer',
    certificate: '2e1b3ba79af56d758be51697621bc4b9e8cee0983db3e749c55eb9b37c6d2ae0', key: 'baf3caf0db083d8155424bb24d6fbbd8ba7487fc5b3ca45d3eb6b2b2e4656ade' },
  { vendor: 'INTC', subject: 'CN=www.intel.com, OU=OnDie CA Root Cert Signing', seenIn: ['collection'],
    url: 'https://tsci.intel.com/content/OnDieCA/certs/OnDie_CA_RootCA_Certificate.cer',
    certificate: 'beb40bb7507b33967226aa80e084749fbb6593893c642e818d682e9a8d07fc24', key: '84b25305bf5f90c399d7f520ad81f451e09b0025d0292143e1388970f9651484' },
  { vendor: 'MSFT', subject: 'CN=Microsoft Pluton Root CA 2021', seenIn: ['collection'],
    url: 'https://www.microsoft.com/pkiops/certs/Microsoft%20Pluton%20Root%20CA%202021.crt',
    certificate: '32ab5fe7cb4396659fcb621ca14c6fb8fc2420f64050637d77e45a86c5d3916e', key: '664778b23fd09c0c61407fb4c2253f9a8978e64be8c4f9a89a92b4acc37d8a70' },
  { vendor: 'MSFT', subject: 'CN=Microsoft TPM Root Certificate Authority 2014', seenIn: ['collection', 'debian'],
    url: 'https://www.microsoft.com/pkiops/certs/Microsoft%20TPM%20Root%20Certificate%20Authority%202014.crt',
    certificate: '870c7a35ceab3d59979f2c6a524042d404cb71518004350925fb2ced79a999da', key: '5eadfa0187a24edb747b98523f89cf92d33eeb20ec81b9d0a31e170b73c2dbb2' },
  { vendor: 'NSG', subject: 'CN=NSING TPM ECC ROOT CA 001', seenIn: ['collection'],
    url: 'https://pki.nsing.com.sg/NSEccRootCA001/NSEccRootCA001.crt',
    certificate: '6ccf8a8a803d07a002a15d4889ffa0b125e4a82a1fe4211db3c6e8592919f9dc', key: '00846603beb1cd5a41f71a4cf98b0bd77f974c879c94f60809541de7287dea84' },
  { vendor: 'NSG', subject: 'CN=NSING TPM RSA ROOT CA 001', seenIn: ['collection'],
    url: 'https://pki.nsing.com.sg/NSRsaRootCA001/NSRsaRootCA001.crt',
    certificate: '72ca00612395af027cd84c5514219f110e964dfa0bfc1efbb3ac147e3b173971', key: 'b5eadb92b6aaf54816c45c6bf57a92ac945bf8285a1c7451008c6207269fad1d' },
  { vendor: 'NTC', subject: 'CN=NPCTxxx ECC521 RootCA', seenIn: ['collection'],
    url: 'https://www.nuvoton.com/security/NTC-TPM-EK-Cert/NPCTxxxECC521RootCA.cer',
    certificate: '083e7bd13e8fe0bb9b0c64db9e0c8356681df65714d2d5c4925eb98ae1369d40', key: 'e73d53e508a4558df188cd77d18f3efa5fb18b8b48c1ee3b27679e08f431029c' },
  { vendor: 'NTC', subject: 'CN=Nuvoton TPM Root CA 1110', seenIn: ['collection', 'debian', 'keylime'],
    url: 'https://www.nuvoton.com/security/NTC-TPM-EK-Cert/Nuvoton%20TPM%20Root%20CA%201110.cer',
    certificate: '2782e51a95e86d9557fe4204316cf805bd6f5898f81f9732e944d742bcdc5f54', key: 'b7f4414b44f1787f046aec866693cda643239b3d0f6998d0ad4adb841e4bd0db' },
  { vendor: 'NTC', subject: 'CN=Nuvoton TPM Root CA 1111', seenIn: ['collection', 'debian', 'keylime'],
    url: 'https://www.nuvoton.com/security/NTC-TPM-EK-Cert/Nuvoton%20TPM%20Root%20CA%201111.cer',
    certificate: 'e38c280f7c0e0b49f31efc7531032bb6a86c3fba4eb89beb1d510eaa4510ae4a', key: 'c871b0ba1182676eeed4c2469d3d5fa3cfa09daca77ea823a4b454cf00dee11e' },
  { vendor: 'NTC', subject: 'CN=Nuvoton TPM Root CA 2110', seenIn: ['debian', 'keylime'],
    url: 'https://www.nuvoton.com/security/NTC-TPM-EK-Cert/Nuvoton%20TPM%20Root%20CA%202110.cer',
    certificate: '4aebe77a51ed29959a7f9f5e07a24a558dee8167f3985d724995a541c258dfda', key: 'b54c81a52159aaf524c88dcf5a7e7a6f5f9ec2f4e69aee0bb3897f0c65e4faea' },
  { vendor: 'NTC', subject: 'CN=Nuvoton TPM Root CA 2111', seenIn: ['collection', 'debian', 'keylime'],
    url: 'https://www.nuvoton.com/security/NTC-TPM-EK-Cert/Nuvoton%20TPM%20Root%20CA%202111.cer',
    certificate: 'cd8185ff8995ed09811970090a8c36fafab34ef87f47fa51fdb9ecf95c9c2e04', key: '95b8ab2c350f58064c30a217f07e0a3353915edee572c5fb2ebcf8fa3f87a813' },
  { vendor: 'NTC', subject: 'CN=Nuvoton TPM Root CA 2112', seenIn: ['collection'],
    url: 'https://www.nuvoton.com/security/NTC-TPM-EK-Cert/Nuvoton%20TPM%20Root%20CA%202112.cer',
    certificate: '66e3a1013d4f697700f731e7d68c69b58351f90ec9580d85862d020ab4abf1af', key: '016b91ecb9f473ab57499ff308c3f948a40287d5d951e5f6651482ad7d381924' },
  { vendor: 'NTC', subject: 'CN=NuvotonTPMRootCA1210', seenIn: ['collection'],
    url: 'https://www.nuvoton.com/security/NTC-TPM-EK-Cert/NuvotonTPMRootCA1210.cer',
    certificate: 'ba70a6ea7b77c7fee8947a07b1e70e0b26d39ce5e6307f63d5e4b9507f19a157', key: 'f6564f73c8ad3bd48fe5571d06d7e2625b1736e716445460e78a5ac6b3b69768' },
  { vendor: 'NTC', subject: 'CN=NuvotonTPMRootCA2210', seenIn: ['collection'],
    url: 'https://www.nuvoton.com/security/NTC-TPM-EK-Cert/NuvotonTPMRootCA2210.cer',
    certificate: 'fc61abbc18100f460205ebe09d8c3e6995ac2be2234344a7facb62e15f9a7584', key: 'd325df18987aeda5c6c072c178babc54c3e1e24e563c691fe881099dddcb31e8' },
  { vendor: 'NTC', subject: 'CN=NuvotonTPMRootCA2211', seenIn: ['collection'],
    url: 'https://www.nuvoton.com/security/NTC-TPM-EK-Cert/NuvotonTPMRootCA2211.cer',
    certificate: '2bbc5db224b8f28a6d2cf336d4da7ab21c8c490e3d60ef497801dc0b6ac00227', key: '1f3ddd0a51b57d54833ae705f8e47f28817a1551d12aee3c6beeed5f1ea2a59d' },
  { vendor: 'NTZ', subject: 'CN=Nationz TPM Root CA', seenIn: ['debian'],
    url: 'http://pki.nationz.com.cn/EkRootCA/EkRootCA.crt',
    certificate: '1293d71d6f61c86b98102fd3d4085ff12538f108e925489c0d545059e5f89c36', key: '07e4e5a1d8eab8f9cf05c54beee7897b3bf95f86f386407e3ba205aa620012de' },
  { vendor: 'STM', subject: 'CN=GlobalSign Trusted Platform Module ECC Root CA', seenIn: ['collection', 'debian'],
    url: 'https://secure.globalsign.com/cacert/tpmeccroot.crt',
    certificate: '5a8c7b5eb888cfce9322068e80e82b28b554ffeb7fdc9638dcb3763077401d26', key: '43679317522d3638ea18936a57c65b33086ba51c77536fe6e1b65492193314cb' },
  { vendor: 'STM', subject: 'CN=GlobalSign Trusted Platform Module Root CA', seenIn: ['collection', 'debian', 'keylime'],
    url: 'https://secure.globalsign.com/cacert/gstpmroot.crt',
    certificate: 'f27bf02c6e00c73d915eeb6a6a2f5fbf0c31ae0393149e6b5c31e41b113841c3', key: '0035d2297fe237a636800382cc2c9e205c6930f84b507ceec3608545d273960f' },
  { vendor: 'STM', subject: 'CN=STM TPM ECC Root CA 01', seenIn: ['collection', 'debian', 'keylime'],
    url: 'https://secure.globalsign.com/cacert/stmtpmeccroot01.crt',
    certificate: 'c541d7e5b9e3f935621acbd403896225ec641036c9ae3b5f7ac793a606ff9b79', key: 'b9e2d0d69753c717df3f14464a6cda088f5d1fda07ffce506baa3288419366df' },
  { vendor: 'STM', subject: 'CN=STM TPM EK Root CA', seenIn: ['collection', 'debian', 'keylime'],
    url: 'https://secure.globalsign.com/cacert/stmtpmekroot.crt',
    certificate: 'f8e37a86b689a20a6cc0c40cc3f81fb130fa9f44ce7ffa60d62590aaf87273a9', key: '1054058a985eb8135bfd59f96a4943824255d3e7a07179c38d058b5399a53882' },
  { vendor: 'STM', subject: 'CN=STSAFE ECC Root CA 02', seenIn: ['collection'],
    url: 'https://sw-center.st.com/STSAFE/STSAFEEccRootCA02.crt',
    certificate: 'fd1e7b68accd825636b27b3177c67402d463a7f04c97b6c47ab705fcdc1a04f6', key: '7fbef05051f792251d32f5b265821137d47cd3dc3d604ace70ecc12e8e579924' },
  { vendor: 'STM', subject: 'CN=STSAFE RSA Root CA 02', seenIn: ['collection'],
    url: 'https://sw-center.st.com/STSAFE/STSAFERsaRootCA02.crt',
    certificate: 'c8f179943356e13d9d84b100201cefabbf408880241e5329e60d950ce1dea623', key: '566cb2589d45c1478036e667da1793daacdadbba57efd6aa29b78d0e6695fd9f' },
];

const BY_FINGERPRINT: ReadonlyMap<string, TpmVendor> = new Map(VENDOR_ROOTS.map(({ certificate, vendor }) => [certificate, VENDORS[vendor]]));

/** The maker whose root has that SHA-256. */
export const vendorOf = (fingerprint: Uint8Array): TpmVendor | undefined => BY_FINGERPRINT.get(toHex(fingerprint));
