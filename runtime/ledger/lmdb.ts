/** The only file that imports `lmdb`. Native code: loaded at first use, so that what never opens a store never pays for it. */
export const loadLmdb = async (): Promise<typeof import('lmdb')> => import('lmdb');
