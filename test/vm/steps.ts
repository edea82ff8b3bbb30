/** What runs in the virtual machine, in order; each boot is a reset of the same TPM. */
export interface Boot {
  /** Of the kernel, beside those that every guest needs. */
  readonly modules: readonly string[];
  /** UEFI and IMA measure what is started. */
  readonly isMeasured: boolean;
  readonly steps: readonly Step[];
}

export interface Step {
  readonly name: string;
  /** For bash, in the project's folder. Ends with the reporter's closing line. */
  readonly command: string;
}

const DEVICE = '/dev/tpmrm0';
/** A guest without KVM is ten to twenty times slower. */
const TIMEOUT_MS = 120_000;

/** Not tpm2-soak: thousands of operations take minutes here, and `npm run test:tpm` runs them. Not tpm2-emulator: that one has no kernel before it. */
const DRIVER_TESTS = ['tpm2-{authorization,commands,credential,faults,interoperability,interposer,policy,slots,vault}', 'measured-boot-peers'];

/** Thousands of verifications without any TPM: half a minute of emulated computing. */
const WITHOUT_FLIPS = "--invert --fgrep 'never verifies a sampled flip'";

const tests = (boot: number, ...argv: string[]): string =>
  `TENZRO_TEST_TPM=${DEVICE} TENZRO_VM_OUT=/out TENZRO_VM_BOOT=${boot} mocha --no-color --timeout ${TIMEOUT_MS} ${argv.join(' ')}`;
const own = (name: string): string => `test/vm/guest/${name}.vm.ts`;

const MEASURED = { modules: ['tpm_vtpm_proxy'], isMeasured: true } as const;
/** Two radios that the kernel simulates, and the ciphers of WPA2 and of protected management frames: nothing in the guest loads modules later. */
const WITH_RADIOS = { modules: ['ctr', 'ccm', 'cmac', 'mac80211_hwsim'], isMeasured: false } as const;

export const BOOTS: readonly Boot[] = [
  {
    ...MEASURED, steps: [
      { name: 'machine', command: tests(1, own('machine')) },
      { name: 'driver', command: tests(1, ...DRIVER_TESTS.map((name) => `test/contract/${name}.test.ts`)) },
      { name: 'sealer', command: tests(1, 'test/integration/attest-sealer.test.ts', 'test/integration/verify-tpm-chain.test.ts', WITHOUT_FLIPS) },
      { name: 'gateway', command: tests(1, own('gateway')) },
    ],
  },
  {
    ...MEASURED, steps: [
      { name: 'machine-again', command: tests(2, own('machine')) },
      { name: 'gateway-again', command: tests(2, own('gateway')) },
    ],
  },
  { ...WITH_RADIOS, steps: [{ name: 'wifi', command: tests(3, own('wifi')) }] },
  { ...WITH_RADIOS, steps: [{ name: 'portal', command: tests(4, own('portal')) }] },
];
