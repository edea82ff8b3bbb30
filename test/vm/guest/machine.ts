/** What the virtual machine's tests know of it: set by its steps (test/vm/steps.ts). */
function told(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set: these tests run in the virtual machine (npm run test:vm)`);
  return value;
}

/** The TPM behind the kernel's resource manager. */
export const DEVICE = told('TENZRO_TEST_TPM');
/** Folder that the host sees, and that outlives a boot. */
export const OUT = told('TENZRO_VM_OUT');
/** 1 for the first; the TPM is the same at every boot. */
export const BOOT = Number(told('TENZRO_VM_BOOT'));
