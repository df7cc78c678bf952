/** Graphics cards as Windows tells them through PowerShell. */
import { z } from 'zod';
import { outputOf } from '../../process/child-process.ts';
import { jsonText } from '../../shared/text.ts';
import { type GraphicsCard, isSoftwareRenderer, shortVendor } from './graphics-card.ts';

/** PowerShell takes its time on the first start after a boot. */
const toolTimeoutMs = 15_000;

/**
 * WMI's AdapterRAM has 32 bits and so ends at 4 GiB; the registry holds the full size of the same card, found by
 * its name.
 */
const script = [
  '[Console]::OutputEncoding = [Text.Encoding]::UTF8',
  "$class = 'HKLM:\\SYSTEM\\CurrentControlSet\\Control\\Class\\{4d36e968-e325-11ce-bfc1-08002be10318}\\0*'",
  "$sizes = @(Get-ItemProperty -Path $class -ErrorAction SilentlyContinue | Where-Object { $_.'HardwareInformation.qwMemorySize' } | ForEach-Object { @{ name = $_.DriverDesc; bytes = [uint64]$_.'HardwareInformation.qwMemorySize' } })",
  '$cards = @(Get-CimInstance Win32_VideoController | Select-Object Name, AdapterCompatibility, AdapterRAM, DriverVersion)',
  '@{ cards = $cards; sizes = $sizes } | ConvertTo-Json -Depth 4 -Compress',
].join('; ');

const answerSchema = z.object({
  cards: z.array(
    z.object({
      Name: z.string(),
      AdapterCompatibility: z.string().nullish(),
      AdapterRAM: z.number().nullish(),
      DriverVersion: z.string().nullish(),
    }),
  ),
  sizes: z.array(z.object({ name: z.string().nullish(), bytes: z.number() })),
});

export async function listWindowsCards(): Promise<GraphicsCard[]> {
  const args = ['-NoProfile', '-NonInteractive', '-Command', script];
  const text = await outputOf('powershell.exe', args, toolTimeoutMs);
  return text === null ? [] : parseWindowsCards(text);
}

/** @param text JSON of the script above; anything else gives no cards */
export function parseWindowsCards(text: string): GraphicsCard[] {
  const answer = jsonText.pipe(answerSchema).safeParse(text.replace(/^\uFEFF/, '')).data;
  if (answer === undefined) return [];
  return answer.cards.flatMap((card) => {
    const name = card.Name.trim();
    // Remote desktops and capture drivers have neither a maker nor memory.
    if (/remote display|basic display|mirror|virtual display/i.test(name)) return [];
    const memoryBytes = answer.sizes.find((size) => size.name === card.Name)?.bytes ?? card.AdapterRAM ?? 0;
    return [
      {
        vendor: shortVendor(card.AdapterCompatibility ?? name),
        name,
        ...(memoryBytes > 0 ? { memoryBytes } : {}),
        ...(card.DriverVersion ? { driver: card.DriverVersion } : {}),
        ...(isSoftwareRenderer(name) ? { software: true } : {}),
      },
    ];
  });
}
