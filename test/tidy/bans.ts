/** Constructs that this repository does without, each with its reason. What a lint rule catches stands in .oxlintrc.json instead. */
export interface Ban {
  readonly pattern: RegExp;
  readonly why: string;
  readonly files: RegExp;
  readonly except?: RegExp;
  /** Look into comments as well. */
  readonly inComments?: true;
}

const SOURCE = /\.[jt]s$/;
const SHIPPED = /^(?:runtime|drivers|models|provisioning)\/.*\.[jt]s$/;

export const BANS: readonly Ban[] = [
  { pattern: /\b(?:TODO|FIXME|XXX|HACK)\b/, why: 'a note to oneself belongs into an issue', files: SOURCE, except: /^test\/tidy\//, inComments: true },
  { pattern: /(?:oxlint|eslint)-disable(?!.* -- \S)/, why: 'say why the rule does not fit: `-- reason`', files: SOURCE, except: /^test\/tidy\//, inComments: true },
  { pattern: /\bDate\.now\(|\bnew Date\(\)/, why: 'time comes from a Clock, so that a test can hold it', files: SHIPPED, except: /^runtime\/core\/clock\.ts$/ },
  { pattern: /\bprocess\.exit\(/, why: 'only an entry point ends the process; a room throws', files: SHIPPED, except: /^(?:runtime\/(?:main\.ts|cli\/)|drivers\/sim\/player\.ts|models\/training\/train\.ts)/ },
  { pattern: /\bglobalThis\.\w+\s*=[^=]/, why: 'no global settings', files: SOURCE },
  { pattern: /\bthrow new Error\(/, why: 'errors that cross rooms are TenzroError with a stable code', files: SHIPPED, except: /^(?:models\/training\/|drivers\/sim\/)/ },
  { pattern: /await (?:sleep|delay|setTimeout)\((?!random)/, why: 'a sleep is no synchronisation: wait for the event, or test/support/until.ts; a random moment to strike at is fine', files: /\.test\.ts$/ },
  { pattern: /\.only\(/, why: 'it would hide the other tests', files: /\.test\.ts$/ },
  { pattern: /\blisten\(\s*[1-9]/, why: 'a fixed port collides: listen on 0', files: /^test\/.*\.ts$/ },
  { pattern: /(?:^|[\s'"`(=:])\/(?:work|root|home\/[a-z]\w*|Users\/\w+)\/\w/, why: 'a path of one machine', files: /./, except: /^(?:package-lock\.json|test\/tidy\/)/, inComments: true },
];

/** Folder names that say nothing; what is laid onto a system has that system's names. */
export const EMPTY_NAMES = /^(?!.*\/usr\/lib\/)(?:.*\/)?(?:utils?|common|helpers?|misc|lib)(?:\/|\.[jt]s$)/;
