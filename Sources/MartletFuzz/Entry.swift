internal import Glibc

// libFuzzer's main comes with `-sanitize=fuzzer`; it calls these two. `scripts/fuzz` builds and links them.

/// Which target is meant: the environment's MARTLET_FUZZ_TARGET.
nonisolated(unsafe) private var target: (UnsafeRawBufferPointer) -> Void = { _ in }

/// Before the first input.
@_cdecl("LLVMFuzzerInitialize")
public func fuzzerInitialize(_ count: UnsafeMutableRawPointer?, _ words: UnsafeMutableRawPointer?) -> Int32 {
    let name = getenv("MARTLET_FUZZ_TARGET").map { String(cString: $0) } ?? ""
    guard let chosen = Targets.all[name] else {
        print("MARTLET_FUZZ_TARGET must be one of " + Targets.all.keys.sorted().joined(separator: ", "))
        exit(2)
    }
    target = chosen
    return 0
}

/// One input; its bytes are valid during the call.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzerTestOneInput(_ bytes: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
    target(UnsafeRawBufferPointer(start: bytes, count: size))
    return 0
}
