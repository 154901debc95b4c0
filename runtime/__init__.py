"""What outlives a rerun of the page: settings, background jobs, conversations. No Streamlit."""
