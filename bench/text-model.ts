import { Random } from './random.ts';

/**
 * Text that compresses the way real text does: words with Zipf frequencies, identifiers that belong to a package and to a
 * file, statements from templates, indentation, licence headers, lines that resemble an earlier line of the same file.
 *
 * Plain repetition would flatter every compressor and random letters none; the ratios this model was tuned to are in
 * data-sets.ts. Everything is written as bytes into one growing buffer, since the sets hold gigabytes.
 */

const rankTableSize = 1 << 16;
/** How often a source line repeats the beginning of an earlier one of its file. */
const echoChance = 0.6;
/** How often a file begins with its package's licence. */
const licenceChance = 0.2;
/** How often a name in a file is foreign to its package. */
const foreignNameChance = 0.6;

/** Words as bytes, drawn by rank with probability proportional to 1 / (rank + 1) ** exponent. */
export class Vocabulary {
  readonly count: number;
  readonly #bytes: Uint8Array;
  readonly #offsets: Uint32Array;
  readonly #ranks: Uint32Array;

  constructor(words: readonly string[], exponent: number) {
    this.count = words.length;
    this.#bytes = new TextEncoder().encode(words.join(''));
    this.#offsets = new Uint32Array(words.length + 1);
    let offset = 0;
    words.forEach((word, index) => {
      this.#offsets[index] = offset;
      offset += word.length;
    });
    this.#offsets[words.length] = offset;
    this.#ranks = rankTable(words.length, exponent);
  }

  /** @returns the index of a word, frequent ones first */
  draw(random: Random): number {
    return this.#ranks[random.word() & (rankTableSize - 1)] ?? 0;
  }

  /** Copies word `index` to `target` at `at`. @returns the position after it */
  copy(index: number, target: Uint8Array, at: number): number {
    const end = this.#offsets[index + 1] ?? 0;
    let position = at;
    // Words have a few bytes: a loop beats TypedArray.set by far at this length.
    for (let offset = this.#offsets[index] ?? 0; offset < end; offset += 1) {
      target[position] = this.#bytes[offset] ?? 0;
      position += 1;
    }
    return position;
  }

  /** @returns the word as a string */
  text(index: number): string {
    const word = this.#bytes.subarray(this.#offsets[index], this.#offsets[index + 1]);
    return new TextDecoder().decode(word);
  }
}

function rankTable(count: number, exponent: number): Uint32Array {
  const cumulative = new Float64Array(count);
  let total = 0;
  for (let rank = 0; rank < count; rank += 1) {
    total += 1 / (rank + 1) ** exponent;
    cumulative[rank] = total;
  }
  const ranks = new Uint32Array(rankTableSize);
  let rank = 0;
  for (let slot = 0; slot < rankTableSize; slot += 1) {
    const wanted = ((slot + 0.5) / rankTableSize) * total;
    while (rank < count - 1 && (cumulative[rank] ?? 0) < wanted) rank += 1;
    ranks[slot] = rank;
  }
  return ranks;
}

const onsets = 'b c d f g h k l m n p r s t v w b c d f l m n p r s t br cl cr dr gr pl pr sh sp st th tr'.split(' ');
const nuclei = 'a e i o u a e i o u a e i o ai ea ee ou'.split(' ');
const codas = ['', '', '', '', 'ck', 'd', 'l', 'm', 'n', 'nd', 'nt', 'p', 'r', 's', 'st', 't', 'x'];

function makeWords(random: Random, count: number): string[] {
  const words = new Set<string>();
  while (words.size < count) {
    const syllables = random.pick([1, 1, 2, 2, 3]);
    let word = '';
    for (let index = 0; index < syllables; index += 1) {
      word += random.pick(onsets) + random.pick(nuclei) + (random.chance(0.6) ? random.pick(codas) : '');
    }
    if (word.length > 1) words.add(word);
  }
  return [...words];
}

function capital(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

function makeIdentifiers(random: Random, words: readonly string[], count: number): string[] {
  const identifiers = new Set<string>();
  while (identifiers.size < count) {
    const parts = random.pick([1, 1, 2, 2, 3]);
    let identifier = random.pick(words);
    for (let index = 1; index < parts; index += 1) identifier += capital(random.pick(words));
    identifiers.add(identifier);
  }
  return [...identifiers];
}

/** A growing run of bytes with the few writing steps that all kinds of text share. */
export class TextBuffer {
  bytes: Uint8Array = new Uint8Array(1 << 20);
  length = 0;

  /** Makes room for `count` more bytes. */
  reserve(count: number): void {
    if (this.length + count <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(this.bytes.length * 2, this.length + count));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
  }

  /** Writes ASCII text. */
  ascii(text: string): void {
    this.reserve(text.length);
    for (let index = 0; index < text.length; index += 1) this.bytes[this.length + index] = text.charCodeAt(index);
    this.length += text.length;
  }

  raw(source: Uint8Array): void {
    this.reserve(source.length);
    this.bytes.set(source, this.length);
    this.length += source.length;
  }

  byte(value: number): void {
    this.reserve(1);
    this.bytes[this.length] = value;
    this.length += 1;
  }

  /** Writes a non-negative integer below 2^32 in decimal, padded with zeros to `width`. */
  decimal(value: number, width = 1): void {
    this.reserve(10);
    let digits = 1;
    for (let limit = 10; limit <= value; limit *= 10) digits += 1;
    if (digits < width) digits = width;
    let rest = value;
    for (let index = digits - 1; index >= 0; index -= 1) {
      const next = Math.floor(rest / 10);
      this.bytes[this.length + index] = 48 + (rest - next * 10);
      rest = next;
    }
    this.length += digits;
  }

  hex(random: Random, digits: number): void {
    this.reserve(digits);
    for (let index = 0; index < digits; index += 1) {
      const nibble = random.word() >>> 28;
      this.bytes[this.length + index] = nibble < 10 ? 48 + nibble : 87 + nibble;
    }
    this.length += digits;
  }

  word(vocabulary: Vocabulary, index: number): void {
    this.reserve(256);
    this.length = vocabulary.copy(index, this.bytes, this.length);
  }

  /** @returns a view of what was written; valid until the next write */
  view(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }

  clear(): void {
    this.length = 0;
  }
}

type Slot = 'local' | 'package' | 'type' | 'global' | 'word' | 'sentence' | 'number' | 'hex';
type Part = Uint8Array | Slot;

const slotOfLetter: Readonly<Record<string, Slot>> = {
  L: 'local',
  P: 'package',
  T: 'type',
  G: 'global',
  W: 'word',
  S: 'sentence',
  N: 'number',
  H: 'hex',
};

function parseTemplate(template: string): readonly Part[] {
  return template
    .split(/(\$[A-Z])/)
    .filter((piece) => piece !== '')
    .map(
      (piece) => (piece.startsWith('$') ? slotOfLetter[piece.charAt(1)] : undefined) ?? new TextEncoder().encode(piece),
    );
}

/** Statements by where they may stand; `{` and `}` at the end of a line move the indentation. */
const statementTemplates = [
  'const $L = $P($L, $L);',
  'const $L = await $L.$P({ $G: $L, $G: $L });',
  'let $L = $N;',
  'if ($L.$P === $L.$G) {',
  'if (!$L || $L.$P < $N) {',
  'for (const $L of $L.$P) {',
  'return $L.$P($L);',
  'return $P($L, $L.$G);',
  '$L.$P = $P($L);',
  '$L.$G($L, $N);',
  '$L.push($L.$P);',
  "throw new $T('$S');",
  "assert($L.$P !== undefined, '$W $W $W');",
  '// $S',
  '// $S $S',
  'const { $G, $P } = $L;',
  'const $L = $L.map(($W) => $W.$P);',
  "case '$W': return $P.$T;",
  'try {',
  '$L.$P += $N;',
  "$P.emit('$W', $L);",
  'await $P($L, { $G: $N });',
  "register('$H$H', $N);",
  "const $G = '$W $G $W $W';",
  '$G.$G = $N * $N + $G;',
].map(parseTemplate);

const closing = parseTemplate('}');
const functionHead = parseTemplate('export function $G($L: $T, $L: $T): $T {');
const methodHead = parseTemplate('  async $P($L, $L) {');
const importLine = parseTemplate("import { $P, $T } from '../$W/$P.js';");
const docComment = parseTemplate('/** $S $S */');
const paramComment = parseTemplate(' * @param {$T} $L $S');
const licenceLines = [
  ' * Licensed under the $W $W License, Version $N. You may not use this file except in',
  ' * compliance with the License. $S',
  ' * $S $S',
  ' * WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.',
].map(parseTemplate);

const logTemplates = [
  'INFO  [$W-$N] request finished method=GET path=/api/$G/$N status=200 duration=$Nms trace=$H',
  'INFO  [$W-$N] request finished method=POST path=/api/$G status=201 duration=$Nms trace=$H',
  'DEBUG [$W-$N] cache lookup key=$G:$N hit=true age=$N',
  'WARN  [$W-$N] slow query table=$W rows=$N duration=$Nms',
  'INFO  [$W-$N] scheduled job $G started',
  'ERROR [$W-$N] $S: connection to $W-$N.$W.internal refused',
].map(parseTemplate);

/** What the files of one package have in common: names, types, a licence. */
export interface PackageStyle {
  readonly names: Uint32Array;
  readonly types: Uint32Array;
  readonly licence: Uint8Array;
}

/** Writers for source, log, JSON and CSV text over one set of words. */
export class TextModel {
  readonly words: Vocabulary;
  readonly identifiers: Vocabulary;
  readonly types: Vocabulary;
  readonly #out = new TextBuffer();
  readonly #locals = new Uint32Array(14);
  readonly #fileNames = new Uint32Array(12);
  readonly #fileTypes = new Uint32Array(6);
  #lineStarts = new Uint32Array(1 << 12);

  constructor(seed: number) {
    const random = new Random(seed, 0x7e47);
    const words = makeWords(random, 6000);
    this.words = new Vocabulary(words, 1);
    this.identifiers = new Vocabulary(makeIdentifiers(random, words, 24_000), 0.5);
    this.types = new Vocabulary(makeIdentifiers(random, words, 2000).map(capital), 0.9);
  }

  /** @returns the style of package `id`; equal for equal ids */
  packageStyle(seed: number, id: number): PackageStyle {
    const random = new Random(seed, id, 0x9ac4);
    const names = Uint32Array.from({ length: 160 }, () => this.identifiers.draw(random));
    const types = Uint32Array.from({ length: 24 }, () => this.types.draw(random));
    const out = this.#out;
    out.clear();
    out.ascii('/*\n');
    for (const line of licenceLines) {
      this.#line(random, line, { names, types });
      out.byte(10);
    }
    out.ascii(' */\n');
    return { names, types, licence: out.view().slice() };
  }

  /**
   * Writes a source file of exactly `size` bytes.
   * @returns a view that is valid until the next call
   */
  source(random: Random, style: PackageStyle, size: number): Uint8Array {
    const out = this.#out;
    out.clear();
    this.#beginFile(random, style);
    if (random.chance(licenceChance)) out.raw(style.licence);
    for (let index = random.below(6); index > 0; index -= 1) this.#sourceLine(random, importLine, style, 0);
    let depth = 0;
    let lineCount = 0;
    let statementsLeft = 0;
    while (out.length < size) {
      if (statementsLeft <= 0 && depth === 0) {
        out.byte(10);
        if (random.chance(0.5)) this.#sourceLine(random, docComment, style, 0);
        if (random.chance(0.2)) this.#sourceLine(random, paramComment, style, 0);
        this.#sourceLine(random, random.chance(0.7) ? functionHead : methodHead, style, 0);
        depth = 1;
        statementsLeft = 2 + random.below(14);
        lineCount = 0;
        continue;
      }
      statementsLeft -= 1;
      if (depth > 0 && (statementsLeft <= 0 || (depth > 1 && random.chance(0.3)))) {
        depth -= 1;
        this.#sourceLine(random, closing, style, depth);
        continue;
      }
      if (lineCount >= this.#lineStarts.length) {
        const grown = new Uint32Array(this.#lineStarts.length * 2);
        grown.set(this.#lineStarts);
        this.#lineStarts = grown;
      }
      this.#lineStarts[lineCount] = out.length;
      lineCount += 1;
      const template = random.pick(statementTemplates);
      // Code is full of lines like the one before it: take an earlier line and go on differently from its middle.
      if (lineCount > 2 && random.chance(echoChance)) {
        const chosen = random.below(lineCount - 1);
        const start = this.#lineStarts[chosen] ?? 0;
        const end = this.#lineStarts[chosen + 1] ?? start;
        const kept = Math.max(0, Math.min(end - 1 - start, 8 + random.below(48)));
        out.reserve(kept);
        out.bytes.copyWithin(out.length, start, start + kept);
        out.length += kept;
        this.#slot(random, random.chance(0.5) ? 'local' : 'package', style);
        out.ascii(');\n');
        continue;
      }
      this.#sourceLine(random, template, style, depth);
      if (template.at(-1) instanceof Uint8Array && out.bytes[out.length - 2] === 123) depth += 1;
    }
    return out.bytes.subarray(0, size);
  }

  /** Writes `size` bytes of a service's log, beginning at second `startSecond` of a day-long run. View as for `source`. */
  log(random: Random, style: PackageStyle, size: number, startSecond: number): Uint8Array {
    const out = this.#out;
    out.clear();
    let milliseconds = startSecond * 1000;
    this.#beginFile(random, style);
    while (out.length < size) {
      milliseconds += random.below(40);
      const second = Math.floor(milliseconds / 1000);
      out.ascii('2026-03-');
      out.decimal(1 + (Math.floor(second / 86_400) % 28), 2);
      out.byte(84);
      out.decimal(Math.floor(second / 3600) % 24, 2);
      out.byte(58);
      out.decimal(Math.floor(second / 60) % 60, 2);
      out.byte(58);
      out.decimal(second % 60, 2);
      out.byte(46);
      out.decimal(milliseconds % 1000, 3);
      out.ascii('Z ');
      this.#line(random, random.chance(0.6) ? (logTemplates[0] ?? closing) : random.pick(logTemplates), style);
      out.byte(10);
    }
    return out.bytes.subarray(0, size);
  }

  /** Writes `size` bytes of a JSON array of records, cut where the size ends. View as for `source`. */
  json(random: Random, style: PackageStyle, size: number): Uint8Array {
    const out = this.#out;
    out.clear();
    out.ascii('[\n');
    this.#beginFile(random, style);
    const fields = Array.from({ length: 7 }, (_, index) => style.names[index] ?? 0);
    while (out.length < size) {
      out.ascii('  { "id": ');
      out.decimal(random.word());
      for (const [index, field] of fields.entries()) {
        out.ascii(', "');
        out.word(this.identifiers, field);
        out.ascii('": ');
        if (index % 3 === 0) out.decimal(random.below(100_000));
        else if (index % 3 === 1) {
          out.byte(34);
          this.#slot(random, 'sentence', style);
          out.byte(34);
        } else out.ascii(random.chance(0.7) ? 'true' : 'null');
      }
      out.ascii(' },\n');
    }
    return out.bytes.subarray(0, size);
  }

  /** Writes a small JSON record of `size` bytes with an id of its own. View as for `source`. */
  record(random: Random, style: PackageStyle, size: number): Uint8Array {
    const out = this.#out;
    out.clear();
    out.ascii('{"id":"');
    const id = out.length;
    out.hex(random, 64);
    out.byte(34);
    // Records name themselves again and again, so that even one of them alone compresses.
    for (let field = 0; out.length < size - 2; field += 1) {
      out.ascii(',"');
      out.word(this.words, (style.names[field & 3] ?? 0) % this.words.count);
      out.ascii('":"');
      if (field % 2 === 0) {
        out.reserve(64);
        out.bytes.copyWithin(out.length, id, id + 64);
        out.length += 64;
        out.byte(47);
        out.hex(random, 32);
      } else out.hex(random, 72);
      out.byte(34);
    }
    out.bytes[size - 2] = 125;
    out.bytes[size - 1] = 10;
    return out.bytes.subarray(0, size);
  }

  /** Writes `size` bytes of measurements as CSV, which compress far less than prose. View as for `source`. */
  csv(random: Random, size: number): Uint8Array {
    const out = this.#out;
    out.clear();
    let stamp = 1_770_000_000;
    while (out.length < size) {
      stamp += 1 + random.below(3);
      out.decimal(stamp);
      for (let column = 0; column < 6; column += 1) {
        out.byte(44);
        out.decimal(random.below(1000));
        out.byte(46);
        out.decimal(random.below(10_000), 4);
      }
      out.byte(10);
    }
    return out.bytes.subarray(0, size);
  }

  /** Writes `size` bytes of prose. View as for `source`. */
  prose(random: Random, style: PackageStyle, size: number): Uint8Array {
    const out = this.#out;
    out.clear();
    while (out.length < size) {
      this.#slot(random, 'sentence', style);
      out.byte(random.chance(0.15) ? 10 : 32);
    }
    return out.bytes.subarray(0, size);
  }

  /** Chooses the names that this file uses: its own, and a few of its package's. */
  #beginFile(random: Random, style: Pick<PackageStyle, 'names' | 'types'>): void {
    for (let index = 0; index < this.#locals.length; index += 1) {
      this.#locals[index] = this.identifiers.draw(random);
    }
    for (let index = 0; index < this.#fileNames.length; index += 1) {
      this.#fileNames[index] = random.chance(foreignNameChance)
        ? this.identifiers.draw(random)
        : (style.names[random.below(style.names.length)] ?? 0);
    }
    for (let index = 0; index < this.#fileTypes.length; index += 1) {
      this.#fileTypes[index] = style.types[random.below(style.types.length)] ?? 0;
    }
  }

  #sourceLine(random: Random, template: readonly Part[], style: PackageStyle, depth: number): void {
    for (let index = 0; index < depth; index += 1) this.#out.ascii('  ');
    this.#line(random, template, style);
    this.#out.byte(10);
  }

  #line(random: Random, template: readonly Part[], style: Pick<PackageStyle, 'names' | 'types'>): void {
    for (const part of template) {
      if (typeof part === 'string') this.#slot(random, part, style);
      else this.#out.raw(part);
    }
  }

  #slot(random: Random, slot: Slot, style: Pick<PackageStyle, 'names' | 'types'>): void {
    const out = this.#out;
    switch (slot) {
      case 'local':
        out.word(this.identifiers, this.#locals[skewed(random, this.#locals.length)] ?? 0);
        break;
      case 'package':
        out.word(this.identifiers, this.#fileNames[skewed(random, this.#fileNames.length)] ?? 0);
        break;
      case 'type':
        out.word(this.types, this.#fileTypes[skewed(random, this.#fileTypes.length)] ?? 0);
        break;
      case 'global':
        out.word(this.identifiers, this.identifiers.draw(random));
        break;
      case 'word':
        out.word(this.words, this.words.draw(random));
        break;
      case 'sentence':
        for (let left = 3 + random.below(7); left > 0; left -= 1) {
          out.word(this.words, this.words.draw(random));
          if (left > 1) out.byte(32);
        }
        break;
      case 'number':
        out.decimal(random.chance(0.6) ? random.below(10) : random.below(5000));
        break;
      case 'hex':
        out.hex(random, 8);
        break;
    }
  }
}

/** Prefers the front of a list: the square of a uniform number. */
function skewed(random: Random, count: number): number {
  const uniform = random.word() / 2 ** 32;
  return Math.floor(uniform * uniform * count);
}
