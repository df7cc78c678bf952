import { Button, Group, TextInput } from '@mantine/core';
import { IconFile, IconFolder } from '@tabler/icons-react';
import { useId } from 'react';
import { desktopBridge, type FileFilter } from '../api/bridge.ts';

interface PathFieldProps {
  label: string;
  description?: string;
  placeholder?: string;
  value: string;
  onChange: (path: string) => void;
  error?: string | undefined;
  /** What the native dialog chooses. */
  choose: 'folder' | FileFilter[];
}

/** A path on this machine: chosen in the system's own dialog in the desktop app, typed in a browser. */
export function PathField({ choose, onChange, label, ...input }: PathFieldProps) {
  const id = useId();
  const bridge = desktopBridge();
  const browse = async () => {
    const path = choose === 'folder' ? await bridge?.chooseFolder() : await bridge?.chooseFile(choose);
    if (path != null) onChange(path);
  };
  return (
    <Group align="flex-end" wrap="nowrap" gap="xs">
      <TextInput
        id={id}
        label={label}
        style={{ flex: 1 }}
        spellCheck={false}
        onChange={(event) => onChange(event.currentTarget.value)}
        {...input}
      />
      {bridge && (
        <Button
          variant="default"
          leftSection={
            choose === 'folder' ? <IconFolder size={16} aria-hidden /> : <IconFile size={16} aria-hidden />
          }
          onClick={() => void browse()}
          aria-label={`Choose: ${label}`}
        >
          Choose…
        </Button>
      )}
    </Group>
  );
}
