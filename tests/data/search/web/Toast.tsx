import React from 'react';

/** A message that fades out by itself. */
export function Toast({ text, onDismiss }: { text: string; onDismiss: () => void }) {
  React.useEffect(() => {
    const timer = setTimeout(onDismiss, 4000);
    return () => clearTimeout(timer);
  }, [onDismiss]);
  return <div className="toast">{text}</div>;
}
